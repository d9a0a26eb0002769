"""`StepwiseLayer`: a layer that treats every step by itself, and whether a function does so."""

import contextlib
import threading
import weakref
from typing import Any

import keras
import numpy as np
from keras import ops

from ..sequence import Sequence, SequenceSpec
from .base import SequenceLayer
from .complex_values import is_complex

# A whole of two rows and its pieces, (row, first step, end): if they agree, an output sees its own step alone, and not
# where it stands, how long the sequence is, or what other rows hold.
_WHOLE, _PIECES = (2, 7), [(0, 0, 1), (1, 1, 3), (0, 3, 7), (1, 6, 7), (0, 1, 2)]
_ROUNDING = {"bfloat16": 2e-2, "float16": 3e-3}
_FAILS = "it fails on values of shape [batch, time, ...]"
_FOUND = weakref.WeakKeyDictionary()


def mixes_time(fn: Any, shapes: Any, dtypes: Any, output_shape: Any = None) -> str | None:
    """Why a function of values [B, T, ...] does not treat every step by itself, or `None` where it does.

    It is tried on random sequences: of a sequence it must give what it gives of its pieces. So cumulative sums, means
    over time, shifts, constants with a time axis, and functions that need a fixed number of steps are found.

    Args:
        fn: the function, of as many tensors as there are shapes; it gives one tensor [B, T, ...].
        shapes: channel shapes of its inputs.
        dtypes: their dtypes.
        output_shape: channel shape that it must give, or `None` for any.

    Example:
        >>> from keras import ops
        >>> mixes_time(lambda x: 2 * x, [(3,)], ["float32"])
        >>> mixes_time(lambda x: ops.cumsum(x, axis=1), [(3,)], ["float32"])
        'it gives other values for steps of a sequence than for the same steps alone'
    """
    key = tuple(map(tuple, shapes)), tuple(dtypes), None if output_shape is None else tuple(output_shape)
    found = {}
    with contextlib.suppress(TypeError):  # not every callable can be a weak key
        found = _FOUND.setdefault(fn, found)
    if key not in found:
        # A thread of its own knows nothing of what is being traced in this one: there all is eager.
        thread = threading.Thread(target=lambda: found.update({key: _tried(fn, *key)}))
        thread.start()
        thread.join()
    return found[key]


def mixing_activation(layer: Any) -> str | None:
    """Why a layer that applies its `activation` to outputs [B, T, ...] cannot step, or `None`."""
    return mixing_function("its activation", layer.activation, layer)


def mixing_function(what: str, fn: Any, layer: Any, few: tuple[int, ...] = (3,)) -> str | None:
    """Why a layer that applies a function to what has the shape of its outputs cannot step, or `None`.

    Args:
        what: the function, in words.
        fn: the function.
        layer: the layer.
        few: channels of an input to try it on where the layer is not built.
    """
    channels = layer.channel_shape if layer.built else None
    if channels != () and is_known(fn):
        return None
    spec = layer.output_spec(SequenceSpec(few if channels is None else channels, layer.compute_dtype))
    why = mixes_time(fn, [spec.shape], [spec.dtype], spec.shape)
    if why is None or (channels is None and fails(why)):  # it may want other channels
        return None
    return f"{what} {getattr(fn, '__name__', fn)!r} does not treat every step by itself: {why}"


def fails(why: str) -> bool:
    """Whether `mixes_time` could not try a function, rather than found that it mixes steps."""
    return why.startswith(_FAILS)


class StepwiseLayer(SequenceLayer):
    """A layer that treats every step by itself: `call_values` is all there is to write."""

    def call_values(self, values: Any, training: bool = False) -> Any:
        """Outputs [B, T, ...] of values [B, T, ...]."""
        raise NotImplementedError

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        return self.call_layer(x, training=training), state

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        return Sequence(self.call_values(x.values, training), x.mask)


def is_known(fn: Any) -> bool:
    """Whether a function is one of Keras's activations, which work on the last axis at most, and keeps it."""
    name = getattr(fn, "__name__", None)
    return name not in (None, "glu") and getattr(keras.activations, name, None) is fn


def _own(fn):
    """A layer of Keras as a function: a copy, which may be built for whatever it is tried on."""
    return type(fn).from_config(fn.get_config()) if isinstance(fn, keras.layers.Layer) else fn


def _tried(fn, shapes, dtypes, output_shape):
    rng = np.random.default_rng(0)
    try:
        fn = _own(fn)
        for scale in (1, 30):
            x = [_draw(rng, (*_WHOLE, *shape), dtype, scale) for shape, dtype in zip(shapes, dtypes, strict=True)]
            whole = _result(fn, x, dtypes, output_shape)
            for row, start, end in _PIECES:
                here = slice(row, row + 1), slice(start, end)
                if not _close(_result(fn, [part[here] for part in x], dtypes, output_shape), whole[here]):
                    return "it gives other values for steps of a sequence than for the same steps alone"
    except Exception as error:
        return f"{_FAILS}: {str(error).strip().partition(chr(10))[0]}"
    return None


def _draw(rng, shape, dtype, scale):
    if keras.backend.is_float_dtype(dtype):
        return rng.normal(size=shape) * scale
    if is_complex(dtype):
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)) * scale
    return rng.integers(2, size=shape)  # what may be an index into anything


def _result(fn, x, dtypes, output_shape):
    y = fn(*(ops.convert_to_tensor(part, dtype) for part, dtype in zip(x, dtypes, strict=True)))
    wanted = (*x[0].shape[:2], *(y.shape[2:] if output_shape is None else output_shape))
    if tuple(y.shape) != wanted:
        raise ValueError(f"it gives shape {tuple(y.shape)}, wanted {wanted}")
    return y


def _close(found, wanted):
    """Whether two results differ by rounding at most, NaN and infinities being themselves."""
    tolerance = _ROUNDING.get(keras.backend.standardize_dtype(wanted.dtype), 1e-4)
    wide = "complex64" if is_complex(keras.backend.standardize_dtype(wanted.dtype)) else "float32"
    found, wanted = (ops.convert_to_numpy(ops.cast(y, wide)) for y in (found, wanted))
    size = np.abs(wanted[np.isfinite(wanted)]).max(initial=0)
    return np.allclose(found, wanted, rtol=tolerance, atol=tolerance * size, equal_nan=True)
