"""Sequences of any length as cosines over relative time: an encoder and a decoder that see a sequence as a whole."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from ..layers.base import SequenceLayer
from ..sequence import Sequence, SequenceSpec
from .ridge import RidgeRegression
from .rows import Rows
from .scaling import Scaling, WithCount
from .stacks import exact


def waves(lengths: Any, steps: Any, count: int, dtype: str) -> Any:
    """Cosines over the parts of sequences that are over, [B, steps, count], orthonormal over the steps of each.

    A sequence of `n` steps has `n` of them; the others are zero.
    """
    length = ops.maximum(ops.cast(lengths, dtype), 1.0)[:, None]  # [B, 1]
    part = (ops.arange(0, steps, dtype=dtype) + 0.5) / length  # [B, steps]
    found = [ops.ones_like(part), *(math.sqrt(2) * ops.cos(math.pi * k * part) for k in range(1, count))]
    has = ops.cast(ops.arange(0, count, dtype=dtype) < length, dtype)  # [B, count]
    return ops.stack(found, axis=-1) * has[:, None, :]


class Curved(keras.layers.Layer):
    """A product, and beside it a hidden layer under dropout, which begins with nothing.  [B, C] -> [B, units].

    Args:
        units: of the output.
        hidden: of the hidden layer, or 0 for none.
        rate: fraction of the hidden layer that is zero while training.
        seed: of which part that is.
    """

    def __init__(self, units: int, hidden: int, rate: float, seed: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        own, dense = {"dtype": self.dtype_policy}, keras.layers.Dense
        self.straight = dense(units, name="straight", **own)
        self.hidden = dense(hidden, "gelu", name="hidden", **own) if hidden else None
        self.dropout = keras.layers.Dropout(rate, seed=seed % 2**31, name="dropout", **own)
        self.bent = dense(units, use_bias=False, kernel_initializer="zeros", name="bent", **own)
        self.sublayers = [self.straight, self.bent] if self.hidden is None else [self.straight, self.hidden, self.bent]

    def build(self, input_shape: Any) -> None:
        self.straight.build(input_shape)
        if self.hidden is not None:
            self.hidden.build(input_shape)
            self.bent.build((*input_shape[:-1], self.hidden.units))

    def call(self, x: Any, training: bool = False) -> Any:
        y = self.straight(x)
        if self.hidden is None:
            return y
        return y + self.bent(self.dropout(self.hidden(x), training=training))


class CosineEncoder(SequenceLayer):
    """The code of a whole sequence by its cosines over relative time, at each of its steps.  [B, T, C] -> [B, T, code].

    The first coefficients of each channel over the parts of the sequence that are over, which are so many for any
    length, go through a product, at first the one onto their principal components; the number of steps is beside them
    the code's last number. Mask: unchanged. It does not step: which part of the sequence a step is depends on where it
    ends.

    Args:
        latent_dim: size of the code.
        cosines: coefficients of each channel.
        known: whether the product stays what it is at first.
        noise: standard deviation of what is added to scaled data while training.
    """

    input_rank: int | None = 3
    takes_complex = False

    def __init__(self, latent_dim: int, cosines: int, known: bool, noise: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        wide = exact(self.compute_dtype)
        self.latent_dim, self.cosines, self.inner = latent_dim, cosines, []
        self.scaling, self.counted = Scaling(name="scaling", dtype=wide), WithCount(name="count", dtype=wide)
        self.noise = keras.layers.GaussianNoise(noise, name="noise", dtype=wide)
        self.product = keras.layers.Dense(latent_dim - 1, trainable=not known, name="code", dtype=wide)
        self.sublayers = (self.scaling, self.counted, self.product)

    @property
    def step_obstacle(self) -> str | None:
        return "it reads cosines over the whole sequence, which are others for each length"

    @property
    def step_remedy(self) -> str | None:
        return 'encoder="recurrent", whose code runs along'

    def build(self, input_shape: Any) -> None:
        self.scaling.build(input_shape)
        self.counted.build((None, None, self.latent_dim - 1))
        self.product.build((None, self.cosines * input_shape[-1]))

    @property
    def width(self) -> int:
        """Channels that the code is made of."""
        return self.product.kernel.shape[0]

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return SequenceSpec((self.latent_dim,), exact(self.compute_dtype))

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        code = self.read(x, training)["code"][:, None]
        shape = ops.shape(x.values)
        return Sequence(ops.broadcast_to(code, (shape[0], shape[1], self.latent_dim)), x.mask)

    def read(self, x: Sequence, training: bool) -> dict[str, Any]:
        """What a whole sequence comes to, as `RecurrentEncoder.read` gives it."""
        x = self.scaling(x.with_mask().mask_invalid())
        values = self.noise(x.values, training=training)
        steps = ops.sum(ops.cast(x.mask, "int32"), axis=1)
        basis = waves(steps, ops.shape(values)[1], self.cosines, exact(self.compute_dtype))
        weight = ops.cast(x.mask, values.dtype) / ops.maximum(ops.cast(steps, values.dtype), 1.0)[:, None]
        found = ops.einsum("btk,btc->bkc", basis * weight[..., None], values)
        features = ops.reshape(found, (-1, self.width))
        number = ops.cast(self.counted.scaled(steps), values.dtype)[:, None]
        code = ops.concatenate([self.product(features), number], axis=-1)
        return {"code": code, "features": features, "sequence": x, "states": (features,)}


class CosineDecoder(keras.layers.Layer):
    """A sequence of a code and a length by cosines over relative time.  code [B, K], lengths int32 [B] -> [B, U, D].

    Args:
        output_dim: D.
        cosines: coefficients of each channel.
        known: whether codes are known before training, so that the coefficients are found in closed form, as a product
            and kernels; where not, a product and a hidden layer are trained.
        hidden: kernels at most, or units of the hidden layer.
        rate: dropout of it.
        seed: of what that draws.
    """

    def __init__(
        self, output_dim: int, cosines: int, known: bool, hidden: int, rate: float, seed: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        wide = exact(self.compute_dtype)
        self.output_dim, self.cosines, self.inner = output_dim, cosines, []
        self.lengths = WithCount(name="lengths", dtype="float32")
        self.known, size, own = known, cosines * output_dim, {"name": "coefficients", "dtype": wide}
        self.product = RidgeRegression(size, hidden, **own) if known else Curved(size, hidden, rate, seed, **own)
        self.sublayers = [self.product, self.lengths]

    def build(self, input_shape: Any) -> None:
        self.lengths.build((None, None, 1))
        self.product.build(input_shape)

    def call(self, code: Any, lengths: Any, steps: Any, training: bool = False) -> Any:
        """The sequences, [B, U, D], padded with what is no part of them."""
        found = self.product(code) if self.known else self.product(code, training=training)
        found = ops.reshape(found, (-1, self.cosines, self.output_dim))
        basis = waves(lengths, steps, self.cosines, exact(self.compute_dtype))
        return ops.einsum("buk,bkd->bud", basis, found)


def learn_components(encoder: CosineEncoder, inputs: Rows) -> Any:
    """Begin with principal components of the coefficients, each sequence weighted by its steps.

    All are divided by one number, so that a code's numbers have a deviation of 1 together, as its last one has alone.

    Args:
        encoder: whose product becomes the one onto the first components, and whose scaling has learned.
        inputs: the sequences.

    Returns:
        Their codes, float64 [N, code].
    """
    found, weight = scaled_coefficients(encoder.scaling, inputs, encoder.cosines), counts(inputs)
    centre = np.average(found, axis=0, weights=weight)
    _, values, axes = np.linalg.svd((found - centre) * np.sqrt(weight / weight.sum())[:, None], full_matrices=False)
    kept = axes[: min(encoder.latent_dim - 1, int((values > 1e-9 * values[:1]).sum()))].T
    kernel = np.zeros((found.shape[1], encoder.latent_dim - 1))
    kernel[:, : kept.shape[1]] = kept
    together = np.sqrt(np.mean(((found - centre) @ kept).var(axis=0))) if kept.size else 0.0
    kernel /= together or 1.0
    encoder.product.kernel.assign(kernel)
    encoder.product.bias.assign(-centre @ kernel)
    number = np.asarray(ops.convert_to_numpy(encoder.counted.scaled(weight)), np.float64)
    return np.concatenate([(found - centre) @ kernel, number[:, None]], axis=1)


def learn_decoder(decoder: CosineDecoder, codes: Any, scaling: Scaling, outputs: Rows) -> None:
    """Find in closed form what gives the coefficients of outputs, given the codes that are known for them."""
    found = scaled_coefficients(scaling, outputs, decoder.cosines)
    decoder.product.learn(codes, found, counts(outputs))


def scaled_coefficients(scaling: Scaling, rows: Rows, count: int) -> Any:
    """Coefficients of rows as they are scaled, float64 [N, count * C]."""
    mean, deviation = (np.asarray(ops.convert_to_numpy(w), np.float64) for w in scaling.weights)
    return np.stack([coefficients((row - mean) / deviation, count) for row in rows])


def counts(rows: Rows) -> Any:
    """Numbers of steps, float64 [N]."""
    return np.array([len(row) for row in rows], np.float64)


def coefficients(row: Any, count: int) -> Any:
    """The first cosines of a row [T, C], float64 [count * C]; zeros beyond its number of steps."""
    part, found = (np.arange(len(row)) + 0.5) / len(row), np.zeros((count, row.shape[1]))
    kept = min(count, len(row))
    basis = np.sqrt(np.where(np.arange(kept) > 0, 2, 1)) * np.cos(np.pi * part[:, None] * np.arange(kept))
    found[:kept] = basis.T @ row / len(row)
    return found.reshape(-1)
