"""`SequenceAutoencoder`: sequences of numbers to codes, and codes to sequences of the length that they say."""

from typing import Any, Literal, Self

import keras
from keras import ops

from ..arguments import as_integer, as_number, as_size, check_choice
from ..layers.structures import as_sequence
from ..registry import is_planned, register_model
from .cosines import CosineDecoder, CosineEncoder, learn_components, learn_decoder
from .decoder import RecurrentDecoder
from .encoder import RecurrentEncoder
from .host import SequenceModel
from .scaling import Scaling
from .stacks import Layers, given_layers, rate_of, sizes_of, stack, width_of
from .stop import StopHead


@register_model("models.SequenceAutoencoder")
@keras.saving.register_keras_serializable("kseq.models")
class SequenceAutoencoder(SequenceModel):
    """Codes of real-valued sequences of any length, and what such codes say: a reconstruction, or another sequence.

    An encoder reads a sequence [T, C]; a product makes a code of its last state and of the number of steps. A stop head
    tells of the code how long the output is, a distribution over lengths, and a decoder makes that many steps [U, D].
    No value of the signal is a stop token, and none is padding. Sequences may be lists of arrays, a `kseq.Ragged`, one
    array [N, T, C], the column of a store, or for `fit` and `train` a function `(batch_size) -> (inputs, outputs,
    last_batch)`; outputs that are left out are the inputs.

    `fit` first learns the scale of the data (see `adapt`), which is part of the model. The loss is that of `compile`,
    by default the mean squared error of scaled values over the valid steps, and `length_weight` times the negative
    log-likelihood of the length. `evaluate` and validation decode without teacher forcing, at the length that is
    predicted: `nmse` is `kseq.models.nmse` of scaled values, as far as the batch is padded, `length_mae` and
    `length_exact` tell of the length. Where training forces the decoder, `forced_nmse` stands beside it. Of the metrics
    of `compile` those in `weighted_metrics` see no padding.

    Masks: sequences are padded on the right inside, and padding changes nothing. Streaming: `encoder` is a kseq layer,
    and `kseq.Stream(ae.encoder)` gives after every step the code of the steps so far; one that is bidirectional has no
    such code. Sources: Cho et al., 2014, "Learning Phrase Representations", for encoder and decoder; Vincent et al.,
    2008, "Extracting and Composing Robust Features", for `noise`; Kingma and Welling, 2014, "Auto-Encoding Variational
    Bayes", and Bowman et al., 2016, "Generating Sentences from a Continuous Space", for `kl_weight` and its warm-up.

    Args:
        input_dim: C.
        output_dim: D; by default C.
        layer_sizes: sizes of the encoder's recurrent layers.
        latent_dim: size of the code; by default the last of `layer_sizes`.
        cell: the recurrent layer, "GRU", "LSTM" or another of kseq's that is made of a size.
        symmetric: whether the decoder has the sizes in reverse order (50:30:30:50), or in the same (50:30:50:30).
        rate: fraction that dropout after each layer sets to zero while training.
        keep_prob: instead of it, the fraction that is kept.
        bidirectional: whether the encoder reads in both directions.
        encoder_layers: kseq layers in the place of the encoder's recurrent layers.
        decoder_layers: the same for the decoder.
        encoder: "recurrent", whose code runs along, or "cosine": principal components of cosines over relative time,
            learned by `adapt` in closed form.
        decoder: what a step of the decoder reads beside the code and its place in the sequence: "parallel", nothing,
            so that all steps are made at once; "autoregressive", the output before it. Or "cosine", which makes
            coefficients of cosines over relative time; with a cosine encoder in closed form, too, so that `adapt` is
            the training and `fit` trains the length alone: quick, and hard to beat where sequences are few or smooth.
        cosines: coefficients of each channel, of a cosine encoder or decoder.
        hidden: of a cosine decoder, the kernels at most, each around a training sequence's code, or the units of the
            hidden layer where the encoder is recurrent.
        teacher_forcing: how often an autoregressive decoder reads the true output before it while training, from 0,
            never, to 1; in between is scheduled sampling.
        bottleneck: whether the decoder knows the code alone. Where not, it attends to the encoder's states, too: for
            translation; then `decode` has not what it needs.
        heads: of that attention.
        noise: standard deviation of noise that is added to the scaled inputs while training (denoising).
        kl_weight: weight of the divergence of codes from a normal distribution; above 0 the autoencoder is variational.
        kl_warmup: steps of training in which this weight grows from 0.
        length_weight: weight of the length in the loss.
        scaling: whether the scale of values is learned; where not, it is 1.
        max_length: the longest sequence that is ever predicted; by default twice the longest one of the outputs that
            `adapt` has seen.
        seed: of the order of batches, and of what is drawn while training.

    Raises:
        TypeError: layers that are none of kseq's.
        ValueError: sizes below 1, fractions and weights out of range, or arguments that contradict each other.

    Example:
        >>> import kseq, numpy as np
        >>> ae = kseq.models.SequenceAutoencoder(input_dim=2, layer_sizes=[8], latent_dim=3)
        >>> ae.compile(optimizer="adam")
        >>> rows = [np.random.rand(n, 2) for n in (5, 7, 4)]
        >>> _ = ae.fit(rows, epochs=1, verbose=0)
        >>> ae.encode(rows).shape, len(ae.predict(rows))
        ((3, 3), 3)
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int | None = None,
        layer_sizes: list[int] | tuple[int, ...] = (64,),
        latent_dim: int | None = None,
        cell: str = "GRU",
        symmetric: bool = True,
        rate: float = 0.0,
        keep_prob: float | None = None,
        bidirectional: bool = False,
        encoder_layers: Layers | None = None,
        decoder_layers: Layers | None = None,
        encoder: Literal["recurrent", "cosine"] = "recurrent",
        decoder: Literal["parallel", "autoregressive", "cosine"] = "parallel",
        cosines: int = 6,
        hidden: int = 512,
        teacher_forcing: float = 0.0,
        bottleneck: bool = True,
        heads: int = 4,
        noise: float = 0.0,
        kl_weight: float = 0.0,
        kl_warmup: int = 0,
        length_weight: float = 0.1,
        scaling: bool = True,
        max_length: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.input_dim = as_size("input_dim", input_dim)
        self.output_dim = self.input_dim if output_dim is None else as_size("output_dim", output_dim)
        self.layer_sizes = sizes_of(layer_sizes)
        self.latent_dim = self.layer_sizes[-1] if latent_dim is None else as_size("latent_dim", latent_dim)
        self.rate = rate_of(rate, keep_prob)
        check_choice("encoder", encoder, ("recurrent", "cosine"))
        check_choice("decoder", decoder, ("parallel", "autoregressive", "cosine"))
        self.teacher_forcing = as_number("teacher_forcing", teacher_forcing, "from 0 to 1", lambda x: 0 <= x <= 1)
        if teacher_forcing and decoder != "autoregressive":
            raise ValueError(
                f'teacher_forcing is for decoder="autoregressive", which reads its outputs; received {teacher_forcing}'
            )
        self.noise, self.kl_weight, self.length_weight = (
            as_number(name, value, "at least 0", lambda x: x >= 0)
            for name, value in (("noise", noise), ("kl_weight", kl_weight), ("length_weight", length_weight))
        )
        self.kl_warmup = as_size("kl_warmup", kl_warmup, 0)
        self.heads = as_size("heads", heads)
        self.max_length = None if max_length is None else as_size("max_length", max_length)
        self.cell, self.symmetric, self.seed = cell, bool(symmetric), as_integer("seed", seed)
        self.bidirectional, self.bottleneck, self.scaling = bool(bidirectional), bool(bottleneck), bool(scaling)
        if self.bidirectional and encoder_layers is not None:
            raise ValueError("bidirectional is for layer_sizes; kseq.Bidirectional among encoder_layers does the same")
        self.encoder_kind, self.decoder_kind = encoder, decoder
        self.cosines, self.hidden = as_size("cosines", cosines), as_size("hidden", hidden, 0)
        self._check_kinds(encoder_layers, decoder_layers)
        self._make(encoder_layers, decoder_layers)

    def _check_kinds(self, encoder_layers, decoder_layers):
        """Refuse arguments that contradict each other."""
        if self.latent_dim < 2:
            raise ValueError(
                f"latent_dim must be at least 2, since the code's last number is the length; received {self.latent_dim}"
            )
        whole = {"encoder": self.encoder_kind == "cosine", "decoder": self.decoder_kind == "cosine"}
        given = {"encoder": encoder_layers, "decoder": decoder_layers}
        for part, is_cosine in whole.items():
            if is_cosine and given[part] is not None:
                raise ValueError(f'{part}="cosine" has no layers; received {part}_layers')
        for name in ("rate", "noise", "kl_weight") if all(whole.values()) else ():
            if getattr(self, name):
                raise ValueError(
                    f"{name} is for what is trained step by step, and cosines are learned in closed form; "
                    f"received {getattr(self, name)}"
                )
        if whole["encoder"] and self.bidirectional:
            raise ValueError('encoder="cosine" sees the whole sequence; received bidirectional=True')
        if not self.bottleneck and any(whole.values()):
            raise ValueError(
                f"bottleneck=False attends to states of recurrent layers; received encoder={self.encoder_kind!r} and "
                f"decoder={self.decoder_kind!r}"
            )

    def prepare(self, inputs: Any, outputs: Any) -> None:
        if self.encoder_kind == "cosine":
            codes = learn_components(self.encoder, inputs)
            if self.decoder_kind == "cosine":
                learn_decoder(self.decoder, codes, self.output_scaling, outputs)

    def _make(self, encoder_layers, decoder_layers):
        """Make all layers."""
        own = {"dtype": self.dtype_policy}
        given = {"encoder_layers": encoder_layers, "decoder_layers": decoder_layers}
        self.given_layers = [name for name, layers in given.items() if layers is not None]
        self.encoder = self._made_encoder(encoder_layers, own)
        self.decoder = self._made_decoder(decoder_layers, own)
        self.output_scaling = Scaling(name="output_scaling", dtype=self.data_dtype)
        self.stop = StopHead(name="stop")
        self.spread: Any = None
        if self.kl_weight:
            # At first codes are nearly certain, so that they come to say something.
            narrow = keras.initializers.Constant(-2.0)
            self.spread = keras.layers.Dense(
                self.latent_dim - 1, kernel_initializer="zeros", bias_initializer=narrow, name="spread", dtype="float32"
            )
            self.code_seed = keras.random.SeedGenerator(self.seed % 2**31)
        names = ["nmse", "forced_nmse", "length_mae", "length_exact", *(["kl"] if self.kl_weight else [])]
        self.measures = {name: keras.metrics.Mean(name=name) for name in names}
        self.measured: tuple[str, ...] = ()
        if not is_planned():
            self.build()

    @property
    def sublayers(self) -> list[Any]:
        """What has weights."""
        parts = [self.encoder, self.decoder, self.output_scaling, self.stop, self.spread]
        return [part for part in parts if part is not None]

    def build(self, input_shape: Any = None) -> None:
        """Make all weights, whose shapes follow from the arguments: the constructor has done so."""
        if self.built:
            return
        self.encoder.build((None, None, self.input_dim))
        self.output_scaling.build((None, None, self.output_dim))
        code = None, self.latent_dim
        self.stop.build(code)
        self.decoder.build(code if self.bottleneck else [code, (None, None, width_of(self.encoder.inner))])
        if self.spread is not None:
            self.spread.build((None, self.encoder.width))
            self.trained_steps: Any = self.add_weight(
                name="trained_steps", shape=(), dtype="float32", initializer="zeros", trainable=False
            )
        self.built = True

    def _made_encoder(self, layers, own):
        if self.encoder_kind == "cosine":
            known = self.decoder_kind == "cosine"
            return CosineEncoder(self.latent_dim, self.cosines, known, self.noise, name="encoder", **own)
        if layers is None:
            inner = self._stack(self.layer_sizes, "encoder", self.bidirectional)
        else:
            inner = given_layers(layers, "encoder_layers")
        return RecurrentEncoder(inner, self.latent_dim, self.noise, name="encoder", **own)

    def _made_decoder(self, layers, own):
        if self.decoder_kind == "cosine":
            options = {"known": self.encoder_kind == "cosine", "rate": self.rate, "seed": self.seed}
            return CosineDecoder(self.output_dim, self.cosines, hidden=self.hidden, name="decoder", **options, **own)
        if layers is None:
            sizes = self.layer_sizes[::-1] if self.symmetric else self.layer_sizes
            outer = self._stack(sizes, "decoder")
        else:
            outer = given_layers(layers, "decoder_layers")
        heads, feeds_back = 0 if self.bottleneck else self.heads, self.decoder_kind == "autoregressive"
        return RecurrentDecoder(outer, self.output_dim, feeds_back, heads, name="decoder", **own)

    def _stack(self, sizes, prefix, bidirectional=False):
        return stack(sizes, self.cell, self.rate, prefix, bidirectional, self.dtype_policy, self.seed)

    # What is computed.

    def call(self, x: Any, training: bool = False) -> dict[str, Any]:
        """What is asked for by what is given, a dict.

        Args:
            x: `inputs`, a `Sequence` or values [B, T, C], for `code` [B, K], `location` and `scale` of the length, and
                the last `states` of each layer; with them `outputs` [B, U, D] for what training and validation need;
                `code` alone for `location` and `scale`; `code`, `lengths` int32 [B] and `frame` [U] for decoded
                `outputs` [B, U, D], or `inputs`, `lengths` and `frame`, where the decoder attends to the inputs.
            training: whether dropout and noise are active.
        """
        if not isinstance(x, dict):
            x = {"inputs": x}
        if "code" in x and "frame" not in x:
            return dict(zip(("location", "scale"), self.stop(x["code"]), strict=True))
        if "code" in x:
            return {"outputs": self._decoded(x["code"], x["lengths"], x["frame"], None)}
        found = self._encoded(as_sequence(x["inputs"]), training)
        if "frame" in x:
            return {"outputs": self._decoded(found["code"], x["lengths"], x["frame"], found["sequence"])}
        if "outputs" in x:
            return self._compared(found, as_sequence(x["outputs"]), training)
        return {name: found[name] for name in ("code", "location", "scale", "states")}

    def _encoded(self, x, training):
        """Everything that comes of the inputs."""
        found = self.encoder.read(x, training)
        if self.spread is not None:
            log_variance = self.spread(found["features"])
            # The code's last number is how long the sequence is, of which nothing is uncertain.
            mean, count = found["code"][:, :-1], found["code"][:, -1:]
            squares = ops.square(ops.cast(mean, "float32"))
            found["kl"] = 0.5 * ops.sum(ops.exp(log_variance) + squares - 1 - log_variance, axis=-1)
            if training:
                self.trained_steps.assign(self.trained_steps + 1)
                drawn = keras.random.normal(ops.shape(mean), dtype="float32", seed=self.code_seed)
                mean = mean + ops.cast(ops.exp(0.5 * log_variance) * drawn, mean.dtype)
                found["code"] = ops.concatenate([mean, count], axis=-1)
        location, scale = self.stop(found["code"])
        return found | {"location": location, "scale": scale}

    def _decoded(self, code, lengths, frame, states):
        given = {} if self.bottleneck else {"states": states}
        made = self.decoder(code, lengths, steps=ops.shape(frame)[0], **given)
        return self.output_scaling.inverse(made)

    def _compared(self, found, target, training):
        """What was made of the inputs beside what should have been, in the scale of the data, zero beyond lengths."""
        target = target.with_mask()
        true = self.output_scaling(target).mask_invalid()
        steps = ops.shape(true.values)[1]
        lengths = ops.sum(ops.cast(target.mask, "int32"), axis=1)
        result = {name: found[name] for name in ("location", "scale", "kl") if name in found}
        result |= {"target": ops.cast(true.values, "float32"), "lengths": lengths}
        result["length"] = self.stop.predicted(found["location"], self.longest)
        given: dict[str, Any] = {"training": training} | ({} if self.bottleneck else {"states": found["sequence"]})
        if self.teacher_forcing:
            forcing = self.teacher_forcing if training else 1.0
            forced = self.decoder(found["code"], lengths, steps=steps, targets=true.values, forcing=forcing, **given)
            result["forced"] = _within(forced, lengths)
        if not (training and self.teacher_forcing):
            at = lengths if training else ops.minimum(result["length"], steps)
            result["made"] = _within(self.decoder(found["code"], at, steps=steps, **given), at)
        return result

    # What is learned.

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        found: Any = y_pred
        made, valid = found.get("made", found.get("forced")), _valid(found)
        weight, there = valid / ops.maximum(ops.sum(valid), 1.0), valid[:, 0]
        if self.loss is None:
            loss = ops.sum(ops.mean(ops.square(made - found["target"]), axis=-1) * weight)
            for each in self.losses:
                loss = loss + ops.cast(each, loss.dtype)
        else:  # Keras divides by all cells
            cells = ops.cast(ops.size(weight), "float32")
            loss = super().compute_loss(x, found["target"], made, weight * cells, training)
        of_rows = self.length_weight * self.stop.loss(found["location"], found["scale"], found["lengths"])
        if "kl" in found:
            of_rows = of_rows + self._kl_weight() * found["kl"]
        return loss + ops.sum(there * of_rows) / ops.maximum(ops.sum(there), 1.0)

    def _kl_weight(self):
        if not self.kl_warmup:
            return self.kl_weight
        return self.kl_weight * ops.minimum(self.trained_steps / self.kl_warmup, 1.0)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        found: Any = y_pred
        there = _valid(found)[:, 0]
        energy = ops.maximum(ops.sum(ops.square(found["target"])), 1e-12)
        off = ops.abs(ops.cast(found["length"] - found["lengths"], "float32"))
        measured = {"length_mae": off, "length_exact": ops.cast(off == 0, "float32")}
        measured |= {"kl": found["kl"]} if "kl" in found else {}
        for name, values in measured.items():
            self.measures[name].update_state(values, sample_weight=there)
        names = {"made": "nmse", "forced": "forced_nmse"}
        for part in names.keys() & found.keys():
            error = ops.sum(ops.square(found[part] - found["target"]))
            self.measures[names[part]].update_state(error / energy, sample_weight=energy)
        self.measured = (*measured, *(names[part] for part in names if part in found))
        return super().compute_metrics(x, found["target"], found.get("made", found.get("forced")), _valid(found))

    def get_metrics_result(self) -> dict[str, Any]:
        found = super().get_metrics_result()
        # What this pass does not measure would be a zero that looks like perfection.
        return {name: value for name, value in found.items() if name not in self.measures or name in self.measured}

    # What is kept.

    def get_config(self) -> dict[str, Any]:
        config = {name: getattr(self, name) for name in _PLAIN}
        config |= {"layer_sizes": list(self.layer_sizes), "encoder": self.encoder_kind, "decoder": self.decoder_kind}
        for name, layers in (("encoder_layers", self.encoder.inner), ("decoder_layers", self.decoder.inner)):
            given = name in self.given_layers
            config[name] = [keras.saving.serialize_keras_object(layer) for layer in layers] if given else None
        policy = keras.dtype_policies.serialize(self.dtype_policy)
        return config | {"name": self.name, "trainable": self.trainable, "dtype": policy}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        config = dict(config)
        if isinstance(config.get("dtype"), dict):
            config["dtype"] = keras.dtype_policies.deserialize(config["dtype"])
        return cls(**config)


_PLAIN = (
    *("input_dim", "output_dim", "latent_dim", "cell", "symmetric", "rate", "bidirectional", "teacher_forcing"),
    *("cosines", "hidden", "bottleneck", "heads", "noise", "kl_weight", "kl_warmup", "length_weight", "scaling"),
    *("max_length", "seed"),
)


def _valid(found):
    """Which steps of the target there are, float32 [B, U]."""
    steps = ops.arange(ops.shape(found["target"])[1], dtype="int32")
    return ops.cast(steps[None] < found["lengths"][:, None], "float32")


def _within(values, lengths):
    """Values of rows, float32, with zeros after their ends."""
    values = ops.cast(values, "float32")
    steps = ops.arange(ops.shape(values)[1], dtype="int32")
    return ops.where((steps[None] < lengths[:, None])[..., None], values, 0.0)
