"""What runs a .tflite file: LiteRT's interpreter, whose memory is written and read where it lies."""

import ctypes
import os
import pathlib
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from ..manifest import Manifest

#: Signatures: of a call, and where the file has the state, of reading and of writing it. XNNPACK computes the first of
#: them in alphabetical order, and no other.
STEP, READ, WRITE = "step", "step_state", "step_state_write"


class _InterpreterState:
    """The leaves of a state, or, where they are `None`, that which lies in the interpreter, or lay there."""

    __slots__ = ("__weakref__", "leaves")

    def __init__(self, leaves: list[np.ndarray] | None = None) -> None:
        self.leaves = leaves


class LiteRTRunner:
    """A call of an exported step in LiteRT's interpreter, with one thread.

    The state of the last call lies in the interpreter: a call that goes on from it moves no leaf through Python. That
    from another state puts its leaves there first, and keeps those that lie there if their state is still in use. A
    call takes the state that it is given, unless it fails.

    Args:
        path: of the file.
        manifest: what travels with it.

    Raises:
        ImportError: ai-edge-litert is not there.
        ValueError: a file that LiteRT does not read, or which has not what its manifest says.
    """

    def __init__(self, path: str | os.PathLike[str], manifest: Manifest) -> None:
        self._manifest = manifest
        self._interpreter = interpreter = _interpreter(pathlib.Path(path))
        signatures = interpreter.get_signature_list()
        if STEP not in signatures:
            raise ValueError(f"{path} must have the signature {STEP!r}; received {', '.join(signatures) or 'none'}")
        self._keeps_state = READ in signatures
        ports = manifest.inputs, manifest.outputs
        inputs, outputs = ([p.tensor for p in some] + [p.mask_tensor for p in some if p.mask_tensor] for some in ports)
        inputs += [manifest.presence_tensor] if manifest.presence_tensor else []
        takes, gives = _details(interpreter)
        self._at = [
            [_index(details, name, path) for name in names]
            for details, names in (
                (takes, inputs),
                (gives, outputs),
                (takes, [] if self._keeps_state else [leaf.tensor for leaf in manifest.state]),
                (gives, [] if self._keeps_state else [leaf.new_tensor for leaf in manifest.state]),
            )
        ]
        self._check_leaves(takes, gives, path)
        # Of a leaf that becomes another the new one lies where the old other lies, which is written, too.
        old, new = ([leaf if isinstance(leaf, int) else None for leaf in row] for row in self._at[2:])
        self._crosses = any(n is not None and n != o and n in old for o, n in zip(old, new, strict=True))
        self._resident: Callable[[], _InterpreterState | None] = _nobody
        self._warm_up()

    def state(self, leaves: list[np.ndarray]) -> Any:
        """A state of leaves, which are copied: to where a call finds them, if no state that is in use lies there."""
        is_free = self._resident() is None
        array = np.asarray if is_free else np.array
        state = _InterpreterState([array(x, leaf.dtype) for x, leaf in zip(leaves, self._manifest.state, strict=True)])
        if is_free:
            self._move_in(state)
        return state

    def leaves(self, state: Any) -> list[np.ndarray]:
        """Copies of the leaves of a state."""
        if state is self._resident():
            return self._resident_leaves()
        return [leaf.copy() for leaf in _unspent(state)]

    def __call__(self, inputs: list[np.ndarray], state: Any) -> tuple[list[np.ndarray], Any]:
        """The outputs and the next state.

        Args:
            inputs: values, then masks where the manifest has them, [B, block, ...].
            state: taken by the call.

        Raises:
            RuntimeError: a state that a call has taken before, or an operation that fails.
        """
        if state is not self._resident():
            self._move_in(state)
        for view, x in zip(self._inputs, inputs, strict=True):
            view[...] = x
        self._interpreter.invoke()
        if self._moves:
            self._look()
        outputs = [view.copy() for view in self._outputs]
        if self._crosses:
            for (old, _), new in zip(self._leaves, [new.copy() for _, new in self._leaves], strict=True):
                old[...] = new
        else:
            for old, new in self._leaves:
                old[...] = new
        new_state = _InterpreterState()
        self._resident = weakref.ref(new_state)
        return outputs, new_state

    def _warm_up(self):
        """Run it: what is allocated when it runs is looked for after every call, all else stays where it is."""
        self._moves = not all(self._is_allocated(index) for indices in self._at for index in indices)
        inputs, _, old, _ = self._at
        self._inputs, self._leaves = ([self._view(index) for index in row] for row in (inputs, old))
        for view in [*self._inputs, *self._leaves]:
            view[...] = 0
        for _ in range(2):
            self._interpreter.invoke()
        self._look()
        if self._keeps_state:
            self._write(self._manifest.initial_state)

    def _is_allocated(self, index):
        try:
            self._view(index)
        except ValueError:
            return False
        return True

    def _look(self):
        """Find the memory of the tensors."""
        inputs, outputs, old, new = ([self._view(index) for index in indices] for indices in self._at)
        self._inputs, self._outputs = inputs, outputs
        self._leaves = list(zip(old, new, strict=True))

    def _view(self, index: Any) -> Any:
        """The memory of a tensor as an array that does not forbid the interpreter to run, as its own views do."""
        if isinstance(index, np.ndarray):
            return index  # of no elements, for which there is no memory
        found = self._interpreter.tensor(index)()
        memory = (ctypes.c_char * found.nbytes).from_address(found.ctypes.data)
        return np.frombuffer(memory, found.dtype).reshape(found.shape)

    def _move_in(self, state):
        leaves = _unspent(state)
        if resident := self._resident():
            resident.leaves, self._resident = self._resident_leaves(), _nobody
        if self._keeps_state:
            self._write(leaves)
        for (view, _), leaf in zip(self._leaves, leaves, strict=False):
            view[...] = leaf
        self._resident, state.leaves = weakref.ref(state), None

    def _resident_leaves(self):
        if self._keeps_state:
            found = self._interpreter.get_signature_runner(READ)()
            return [np.array(found[leaf.tensor]) for leaf in self._manifest.state]
        return [old.copy() for old, _ in self._leaves]

    def _write(self, leaves):
        names = [leaf.tensor for leaf in self._manifest.state]
        self._interpreter.get_signature_runner(WRITE)(**dict(zip(names, leaves, strict=True)))

    def _check_leaves(self, takes, gives, path):
        batch, block = self._manifest.batch_size, self._manifest.block
        wanted = [(takes, port.tensor, (batch, block, *port.shape), port.dtype) for port in self._manifest.inputs]
        if not self._keeps_state:
            wanted += [(takes, leaf.tensor, leaf.shape, leaf.dtype) for leaf in self._manifest.state]
            wanted += [(gives, leaf.new_tensor, leaf.shape, leaf.dtype) for leaf in self._manifest.state]
        for details, name, shape, dtype in wanted:
            found = tuple(map(int, details[name]["shape"])), np.dtype(details[name]["dtype"]).name
            if found != (tuple(shape), dtype):
                raise ValueError(
                    f"the tensor {name!r} of {path} must be {dtype} of shape {tuple(shape)}, as its manifest says; "
                    f"received {found[1]} of shape {found[0]}"
                )


class LiteRTWhole:
    """A computation on whole sequences in LiteRT's interpreter, of any length that the file takes.

    Args:
        path: of the file.
        manifest: what travels with it.

    Raises:
        ImportError, ValueError: as of `LiteRTRunner`.
    """

    def __init__(self, path: str | os.PathLike[str], manifest: Manifest) -> None:
        self._interpreter = _interpreter(pathlib.Path(path))
        self._run = self._interpreter.get_signature_runner(STEP)
        inputs, outputs = manifest.inputs, manifest.outputs
        self._takes = [p.tensor for p in inputs] + [p.mask_tensor for p in inputs if p.mask_tensor]
        self._gives = [p.tensor for p in outputs] + [p.mask_tensor for p in outputs if p.mask_tensor]

    def state(self, leaves: list[np.ndarray]) -> Any:
        """Nothing: there is none."""
        return ()

    def leaves(self, state: Any) -> list[np.ndarray]:
        """None."""
        return []

    def __call__(self, inputs: list[np.ndarray], state: Any) -> tuple[list[np.ndarray], Any]:
        """The outputs of values and masks [B, T, ...]."""
        found = self._run(**dict(zip(self._takes, inputs, strict=True)))
        return [found[name] for name in self._gives], state


def _nobody():
    return None


def _interpreter(path):
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError("a .tflite file is run by LiteRT: `pip install ai-edge-litert`") from error
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path} is no model that LiteRT runs: {error}") from error
    return interpreter


def _details(interpreter):
    """What the step takes and gives, by name. The interpreter does not run while a signature's runner is held."""
    runner = interpreter.get_signature_runner(STEP)
    return runner.get_input_details(), runner.get_output_details()


def _index(details, name, path):
    if name not in details:
        raise ValueError(f"{path} must have the tensor {name!r}, as its manifest says; received {', '.join(details)}")
    found = details[name]
    return int(found["index"]) if np.prod(found["shape"]) else np.empty(found["shape"], found["dtype"])


def _unspent(state):
    if state.leaves is None:
        raise RuntimeError("the state of this stream was taken by another call; `reset()` begins anew")
    return state.leaves
