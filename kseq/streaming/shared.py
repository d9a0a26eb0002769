"""What the streams of one model share: copies of its weights, and the compiled steps."""

import collections
import numbers
import threading
import types
import weakref
from typing import Any

import keras
import numpy as np
import xxhash

# Compiled steps that are kept of a model whose streams are gone: those used last.
_KEPT = 64

_of_models = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def shared_by(model: Any) -> "Shared":
    """What the streams of a model, or layer, share; it goes with the model."""
    with _lock:
        return _of_models.setdefault(model, Shared())


class Shared:
    """Weights by what they are, compiled steps by what they were made for.

    Nothing in here may hold the model: neither would then ever be freed.
    """

    def __init__(self) -> None:
        self._mutex = threading.RLock()
        self._weights = weakref.WeakValueDictionary()
        self._functions, self._latest = collections.OrderedDict(), None

    def weights(self, variables: Any, copy: Any) -> "Weights":
        """The values that variables have now: those of an earlier stream if they are the same bit for bit.

        Args:
            variables: of the model.
            copy: gives a copy of a backend's tensor.
        """
        # Backends do not count the versions of a variable, and a copy of each stream's own would cost more than this.
        digest = xxhash.xxh3_128()
        for v in variables:
            array = np.ascontiguousarray(keras.ops.convert_to_numpy(v.value))
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(array.reshape(-1).view(np.uint8).data)
        with self._mutex:
            found = self._weights.get(digest.digest())
            if found is None:
                found = self._weights[digest.digest()] = Weights(copy(v.value) for v in variables)
            return found

    def function(self, key: Any, make: Any, weights: Any = None) -> Any:
        """The compiled step of a key; `make()` gives it where there is none, by one thread at a time.

        Args:
            key: what it was made for.
            make: compiles it.
            weights: those that are compiled into it, if any; of these the latest are kept, with all that has them.
        """
        with self._mutex:
            kept = self._functions
            if weights is not None:
                self._latest, kept = weights, weights.functions
            function = kept.get(key) or make()
            if function.trace.is_shareable:
                kept[key] = function
                kept.move_to_end(key)
                if len(kept) > _KEPT:
                    kept.popitem(last=False)
            return function


class Weights:
    """Values of variables, in their order, and the compiled steps that have them as constants."""

    values: Any
    functions: Any

    def __init__(self, values: Any) -> None:
        self.values, self.functions = tuple(values), collections.OrderedDict()


def fingerprint(layer: Any) -> tuple[Any, ...]:
    """What a trace of a layer depends on besides the values of its variables: equal for equal ones, and hashable.

    These are the attributes of the layer and of all layers within it: numbers, texts and functions, the shapes of
    variables, and arrays that are no variables (the mean of a `Normalization`), which are compiled into a step.
    """
    found, seen = [], set()

    def visit(x, name, public, contained=False):
        if isinstance(x, keras.Variable):
            found.append((name, tuple(x.shape), x.dtype))
        elif isinstance(x, keras.layers.Layer):
            if id(x) not in seen:
                seen.add(id(x))
                found.append((name, type(x), x.compute_dtype))
                for key, value in vars(x).items():
                    visit(value, key, public=not key.startswith("_"))
        elif isinstance(x, (list, tuple)):
            for part in x:
                visit(part, name, public, True)
        elif isinstance(x, dict):
            for key, part in x.items():
                visit(part, f"{name}/{key}", public, True)
        elif contained and not public:
            return  # what Keras keeps for itself, the losses of the last call for one
        elif isinstance(x, np.ndarray):
            found.append((name, x.shape, x.dtype.str, x.tobytes()))
        elif keras.ops.is_tensor(x):
            found.append((name, _Same(x)))
        elif public and (x is None or isinstance(x, (str, bytes, numbers.Number))):
            found.append((name, type(x), x))
        elif public and isinstance(x, types.FunctionType):
            found.append((name, weakref.ref(x)))

    visit(layer, "", public=True)
    return tuple(found)


class _Same:
    """Equal to what holds the same tensor."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    def __eq__(self, other: Any) -> Any:
        return isinstance(other, _Same) and self.tensor is other.tensor

    def __hash__(self) -> Any:
        return id(self.tensor)
