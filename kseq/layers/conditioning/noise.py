"""`NoiseConditioning`: conditioning on random numbers."""

import math
import random
from collections.abc import Iterable
from typing import Any, Literal, Unpack

import keras
from keras import ops

from ...annotations import Shape
from ...arguments import as_size, check_choice
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ...timing import Timing
from ..base import Example
from ..counted import mixed, mixed_number, normal, row_keys, uniform
from ..counting import count
from .base import Combination, ConditionedLayer, ConditioningOptions, Projection

Distribution = Literal["normal", "uniform"]


@register
class NoiseConditioning(ConditionedLayer):
    """Combines each step with random numbers, projected as in `Conditioning`.  [B, T, ...] -> [B, T, ...].

    Where `training` is false the numbers follow from the seed, from the position of the step, counted in the row's
    valid steps, and from their channel: but for rounding they are the same in layer mode and in step mode, on every
    backend, and in all rows. Where each row is to have its own, give numbers with the rows: `row_seeds_name` names a
    context of whole numbers [B, 1] (or [B, n]) from which the row's numbers follow too, wherever in the batch it
    stands. While training, every call and every row have numbers of their own where there are no such seeds.

    Mask: unchanged. Timing: none, but an output depends on how many valid steps came before. State: the position of the
    next step.
    Source: google/sequence-layers, `NoiseConditioning` of its TensorFlow layers.

    Args:
        noise_channel_shape: shape of what is drawn for a step.
        combination, projection: as in `Conditioning`.
        distribution: "normal", of mean 0 and standard deviation 1, or "uniform", from 0 to below 1.
        seed: seed of the numbers; by default one is drawn when the layer is made, and kept in its configuration.
        row_seeds_name: name of the context that has the rows' seeds, or `None`.
        **kwargs: the options of all conditioning.

    Raises:
        ValueError: sizes below 1, another distribution, and what `Conditioning` refuses.
        TypeError: row seeds that are no whole numbers [B, n].

    Example:
        >>> import kseq, numpy as np
        >>> layer, x = kseq.NoiseConditioning((8,), "affine", seed=1), np.ones((1, 9, 3), "float32")
        >>> whole = np.asarray(layer(x))
        >>> step, state = layer.step(x[:, :4], layer.initial_state(1, kseq.SequenceSpec((3,))))
        >>> bool(np.allclose(np.asarray(step.values), whole[:, :4], atol=1e-6))
        True
    """

    seed: int
    seed_generator: Any
    context_names: tuple[str, ...]
    static_context: tuple[str, ...]

    context_state: tuple[str, ...] = ("key",)

    noise_channel_shape: tuple[int, ...]

    def __init__(
        self,
        noise_channel_shape: tuple[int, ...],
        combination: Combination = "add",
        projection: Projection | None = None,
        distribution: Distribution = "normal",
        seed: int | None = None,
        row_seeds_name: str | None = None,
        **kwargs: Unpack[ConditioningOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        sizes = noise_channel_shape if isinstance(noise_channel_shape, Iterable) else (noise_channel_shape,)
        self.noise_channel_shape = tuple(as_size("noise_channel_shape", size) for size in sizes)
        check_choice("distribution", distribution, ("normal", "uniform"))
        self.set_modes(combination, projection)
        self.seed = random.getrandbits(31) if seed is None else seed
        self.seed_generator = keras.random.SeedGenerator(self.seed) if row_seeds_name is None else None
        self.context_names = self.static_context = () if row_seeds_name is None else (row_seeds_name,)
        self._given_shape = self.noise_channel_shape

    def build(self, input_shape: Shape, context_shape: Any = None) -> None:
        self.build_projection(input_shape[2:], self.noise_channel_shape)

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return self.conditioned_spec(input_spec)

    @property
    def counts_steps(self) -> bool:
        return True

    @property
    def timing(self) -> Timing:
        return Timing(receptive_field_per_step=((-math.inf, 0),))

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        state = {"position": ops.zeros((batch_size,), dtype="int32")}
        return state | self._keys(self.check_context(context))

    def _keys(self, context):
        if self.row_seeds_name is None:
            return {}
        return {"key": row_keys(mixed_number(self.seed), context[self.row_seeds_name], self.row_seeds_name)}

    def call_layer(self, x: Sequence, *, training: bool = False, context: Any = None) -> Sequence:
        start = {"position": ops.zeros((1,), dtype="int32")} | self._keys(self.check_context(context))
        return self.call_step(x, start, training=training)[0]

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        batch, time = ops.shape(x.values)[:2]
        position, after = count(x.mask, time, state["position"], "valid")
        key = state.get("key")
        if key is None and training:
            key = keras.random.randint((batch,), 0, 2**31 - 1, dtype="int32", seed=self.seed_generator)
        noise = self._drawn(position, mixed_number(self.seed) if key is None else key[:, None])
        return Sequence(self.combined(x.values, self.projected(noise)), x.mask), state | {"position": after}

    def _drawn(self, position, key):
        """Random numbers of positions [B, T], all channels on one axis."""
        size = math.prod(self.noise_channel_shape)
        bits = mixed(position + key)[..., None]
        channel = ops.arange(0, size, dtype="int32")
        found = mixed(bits + channel)
        return uniform(found) if self.distribution == "uniform" else normal(found, mixed(bits + (channel + size)))

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"noise_channel_shape": (4,), "combination": "affine", "seed": 1}),
            Example(
                {
                    "noise_channel_shape": (2, 3),
                    "combination": "concat",
                    "projection": "identity",
                    "distribution": "uniform",
                    "seed": 1,
                },
                (4, 12, 2, 2),
            ),
        ]
