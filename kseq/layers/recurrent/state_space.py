"""What diagonal state spaces share: discretisation, and numbers as pairs (real part, imaginary part)."""

import math
from typing import Any

import keras
from keras import ops

from ...arguments import as_number

DISCRETIZATIONS = ("zoh", "bilinear")


def discretize(method: str, a: Any, dt: Any) -> tuple[Any, Any]:
    """Of h' = a h + u, with the time `dt` between steps: the factors of h and of u in a step.

    Args:
        method: `"zoh"`, for inputs that are held from step to step, or `"bilinear"`.
        a: pair of arrays, the real part below zero.
        dt: array that broadcasts to them.
    """
    real, imaginary = a[0] * dt, a[1] * dt
    if method == "bilinear":
        above, below = (1 + real / 2, imaginary / 2), (1 - real / 2, -imaginary / 2)
        return quotient(above, below), quotient((dt * ops.ones_like(real), ops.zeros_like(real)), below)
    size, sine = ops.exp(real), ops.sin(imaginary)
    # exp(z) - 1, without a difference of near numbers
    near = ops.expm1(real) * ops.cos(imaginary) - 2 * ops.square(ops.sin(imaginary / 2))
    return (size * ops.cos(imaginary), size * sine), quotient((near, size * sine), a)


def product(x: Any, y: Any) -> tuple[Any, Any]:
    """x y."""
    return x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]


def quotient(x: Any, y: Any) -> tuple[Any, Any]:
    """x / y."""
    square = ops.square(y[0]) + ops.square(y[1])
    return product(x, (y[0] / square, -y[1] / square))


def steps_of_time(shortest: float, longest: float) -> Any:
    """An initialiser of logarithms of times between steps, uniform among logarithms.

    Raises:
        ValueError: times that are not positive and in order.
    """
    for name, time in (("dt_min", shortest), ("dt_max", longest)):
        as_number(name, time, "above 0", lambda time: 0 < time < math.inf)
    if shortest > longest:
        raise ValueError(f"`dt_min` must be above 0 and at most `dt_max`; received {shortest} and {longest}")
    return keras.initializers.RandomUniform(math.log(shortest), math.log(longest))
