"""Regression in closed form: a product, and kernels for what no product gives."""

from typing import Any

import keras
import numpy as np
from keras import ops

_PENALTIES = 10.0 ** np.arange(-3, 3.5, 0.5)
_WIDTHS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4)  # as parts of how far codes spread
_ROWS = 8192  # that are learned of: more change little and take long
_FREE = 30.0  # how much larger than kernels a product may be at the same penalty


class RidgeRegression(keras.layers.Layer):
    """A product and a sum of Gaussian kernels, both found in closed form.  [B, C] -> [B, units].

    `learn` finds the product and the weights of kernels around some of the rows by ridge regression. How wide kernels
    are, and how large the penalty is, is what predicts best the rows that are left out, one at a time; where that is no
    kernels, their weights are zero. So a few hundred rows are not learned by heart. No gradient changes the weights.

    Args:
        units: of the output.
        centres: kernels at most, or 0 for none.

    Source: Saunders, Gammerman and Vovk, 1998, "Ridge Regression Learning Algorithm in Dual Variables"; Williams and
    Seeger, 2001, "Using the Nyström Method to Speed Up Kernel Machines", for fewer kernels than rows.

    Example:
        >>> layer = RidgeRegression(1, centres=64)
        >>> x = np.linspace(-1, 1, 64)[:, None]
        >>> layer.build((None, 1))
        >>> layer.learn(x, x**2)
        >>> round(float(layer(np.array([[0.5]], "float32"))[0, 0]), 2)
        0.25
    """

    kernel: Any
    bias: Any
    centres: Any
    weight: Any
    width: Any

    def __init__(self, units: int, centres: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units, self.count = units, centres

    def build(self, input_shape: Any) -> None:
        size = input_shape[-1]
        shapes = {"kernel": (size, self.units), "bias": (self.units,), "width": ()}
        if self.count:
            shapes |= {"centres": (self.count, size), "weight": (self.count, self.units)}
        for name, shape in shapes.items():
            initializer = "ones" if name == "width" else "zeros"
            setattr(self, name, self.add_weight(name=name, shape=shape, initializer=initializer, trainable=False))

    def learn(self, x: Any, y: Any, weight: Any = None) -> None:
        """Find the weights.

        Args:
            x: rows [N, C].
            y: what they should give, [N, units].
            weight: how much an error of each row counts, [N].
        """
        weight = np.ones(len(x)) if weight is None else weight / np.mean(weight)
        order = np.random.default_rng(0).permutation(len(x))[:_ROWS]
        x, y, weight = x[order], y[order], weight[order]
        centre, middle = np.average(x, axis=0, weights=weight), np.average(y, axis=0, weights=weight)
        flat = x - centre
        error, kernel = ridge(flat, y - middle, weight)
        if self.count:
            centres = x[: self.count]
            spread = np.sqrt(x.var(axis=0).sum()) or 1.0
            width, bent = 1.0, np.zeros((len(centres), self.units))
            for candidate in (part * spread for part in _WIDTHS):
                features, root = kernels(x, centres, candidate)
                # Both at once: what a product leaves of rows that it was found for says little of others.
                off, found = ridge(np.hstack([_FREE * flat, features]), y - middle, weight)
                if off < error:
                    straight = x.shape[1]
                    error, width, kernel, bent = off, candidate, _FREE * found[:straight], root @ found[straight:]
            unused = ((0, self.count - len(centres)), (0, 0))
            self.width.assign(width)
            self.centres.assign(np.pad(centres, unused))
            self.weight.assign(np.pad(bent, unused))
        self.kernel.assign(kernel)
        self.bias.assign(middle - centre @ kernel)

    def call(self, x: Any) -> Any:
        y = ops.einsum("bc,cu->bu", x, self.kernel) + self.bias
        if not self.count:
            return y
        squares = ops.sum(ops.square(x[..., None, :] - self.centres), axis=-1)
        return y + ops.einsum("bm,mu->bu", ops.exp(-0.5 * squares / ops.square(self.width)), self.weight)


def kernels(x: Any, centres: Any, width: float) -> tuple[Any, Any]:
    """Gaussian kernels of rows [N, C] around centres [M, C], in coordinates in which their penalty is a product's.

    Returns:
        The coordinates [N, K]; [M, K], of which the product with a kernel of these is the centres' weights.
    """
    values, axes = np.linalg.eigh(gaussians(centres, centres, width))
    kept = values > 1e-9 * values[-1]
    root = axes[:, kept] / np.sqrt(values[kept])
    return gaussians(x, centres, width) @ root, root


def gaussians(x: Any, centres: Any, width: float) -> Any:
    squares = (x**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1) - 2 * x @ centres.T
    return np.exp(-0.5 * squares / width**2)


def ridge(x: Any, y: Any, weight: Any) -> tuple[float, Any]:
    """Ridge regression whose penalty predicts best each row that it was not given.

    Args:
        x: rows [N, C].
        y: what they should give, [N, D].
        weight: how much an error of each row counts, [N].

    Returns:
        The sum of squared errors of rows left out, weighted; the kernel [C, D].
    """
    root = np.sqrt(weight)[:, None]
    x, y = x * root, y * root
    values, axes = np.linalg.eigh(x.T @ x)
    kept = values > 1e-12 * max(values[-1], 1e-30)
    values, axes = values[kept], axes[:, kept]
    turned = x @ axes  # orthogonal columns
    along = turned.T @ y
    best: tuple[float, Any] = (np.inf, None)
    for penalty in _PENALTIES:
        shrunk = along / (values + penalty)[:, None]
        leverage = (turned**2 / (values + penalty)).sum(axis=1)
        errors = (y - turned @ shrunk) / np.maximum(1 - leverage, 1e-6)[:, None]
        error = float(np.sum(errors**2))
        if error < best[0]:
            best = (error, axes @ shrunk)
    return best
