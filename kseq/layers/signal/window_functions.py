"""Window functions by name, as values that a configuration or a spec can hold.

`None` is no window, a name is one without parameters, and (name, *parameters) one with them:

- `hann` and `hamming`: periodic where the window is even, symmetric where it is odd.
- `("inverse_stft", step)` or `("inverse_stft", step, forward)`: what frames `step` apart, cut out under the window
  function `forward` (by default `hann`), are weighted with so that their sum is the signal again.
- Any other of `scipy.signal.get_window`, if scipy is installed: `blackman`, `("kaiser", 8.6)`; periodic as above.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...arguments import as_size, check_table

WindowFunction = str | tuple[Any, ...] | None

_COSINES = {"hann": 0.5, "hamming": 0.54}
_WANTED = "None, a name, or a tuple (name, *parameters)"


def standard(value: Any) -> WindowFunction:
    """A window function as it is kept: tuples where there were lists.

    Raises:
        ValueError: something else.
    """
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], str):
        return _tuples(value)
    if value is None or (isinstance(value, str) and value):
        return value
    raise ValueError(f"`window_function` must be {_WANTED}; received {value!r}")


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


def window_values(value: WindowFunction, size: int) -> NDArray[np.float64]:
    """The weights of a window function of `size` steps, [size].

    Raises:
        ValueError: a window function that there is not, or with other parameters.
        ImportError: one of scipy's, where scipy is not installed.

    Example:
        >>> window_values("hann", 4).round(3).tolist()
        [0.0, 0.5, 1.0, 0.5]
    """
    check_table("window function", size)
    found = _values(value, size)
    # An end that only rounding keeps from being zero is: it is no part of the receptive field.
    return np.where(np.abs(found) < 1e-15 * np.abs(found).max(), 0.0, found)


def _values(value, size):
    if value is None:
        return np.ones(size)
    name, *parameters = (value,) if isinstance(value, str) else value
    if name in _COSINES:
        if parameters:
            raise ValueError(f"the window function {name!r} takes no parameters; received {value!r}")
        return _raised_cosine(size, _COSINES[name])
    if name == "inverse_stft":
        return _inverse_stft(size, value, *parameters)
    return _of_scipy(value, size)


def _raised_cosine(size, level):
    if size == 1:
        return np.ones(1)
    period = size if size % 2 == 0 else size - 1
    return level - (1 - level) * np.cos(2 * np.pi * np.arange(size) / period)


def _inverse_stft(size, value, step=None, forward="hann", *others):
    if others or step is None:
        raise ValueError(
            f"the window function 'inverse_stft' takes a step and a forward window function; received {value!r}"
        )
    step = as_size("step of the window function 'inverse_stft'", step)
    forward = window_values(standard(forward), size)
    # The least squares of Griffin and Lim (1984): divided by what the squares of all windows over a step sum to.
    squares = np.pad(forward**2, (0, -size % step)).reshape(-1, step).sum(0)
    sums = np.resize(squares, size)
    return np.divide(forward, sums, out=np.zeros(size), where=sums > 0)


def _of_scipy(value, size):
    try:
        from scipy.signal import get_window
    except ImportError:
        raise ImportError(
            f"the window function {value!r} is scipy's, which is not installed: run `pip install scipy`, or use one of "
            f"{', '.join(_COSINES)} and inverse_stft"
        ) from None
    try:
        return np.asarray(get_window(value, size, fftbins=size % 2 == 0), "float64")
    except (ValueError, TypeError) as error:
        raise ValueError(f"`window_function` {value!r} is none of scipy's: {error}") from None
