"""What a stream asks of what it runs: how it is described, and its step."""

from typing import Any, Protocol

import numpy as np

from ..timing import Timing


class Described(Protocol):
    """What a stream has to know of the form of what it runs: of a layer, or of what stands in a file.

    What was made of a Keras model has further `inputs` (each with a `name`, the name of its `mask` or `None`, and a
    `spec`), `input_names`, and `input_structure` and `output_structure`: lists and dicts of the numbers of inputs and
    outputs.

    Attributes:
        channel_shape: of the input, or a tuple of those of all inputs; `None` where it is not known yet.
        reads_presence: whether the last input says by its mask which steps are there.
        compute_dtype: in which it computes.
        timing: of all outputs together.
        timings: of every output.
    """

    @property
    def num_inputs(self) -> int: ...
    @property
    def num_outputs(self) -> int: ...
    @property
    def channel_shape(self) -> Any: ...
    @property
    def reads_presence(self) -> bool: ...
    @property
    def compute_dtype(self) -> str: ...
    @property
    def timing(self) -> Timing: ...
    @property
    def timings(self) -> Any: ...

    def output_spec(self, input_spec: Any, /) -> Any:
        """`SequenceSpec` of the output, or a tuple of those of all outputs, for one of the input or a tuple of them."""
        ...


class RunnableStep(Protocol):
    """A step `run(values, masks, active, state) -> (outputs, state)` on NumPy arrays.

    `values` is a tuple with [B, T, ...] for every input, of whole blocks, `masks` one with bool [B, T] or `None` for
    each, `active` bool [B] or `None`; none of these arrays is kept. `outputs` is a list of (values, mask or `None`),
    arrays that are the caller's to write. States are opaque. A call may take the memory of the state that it is given,
    which then cannot be used again, but for one from `fork`.

    Attributes:
        is_limited: whether it takes so many steps and no more.
        compilations: how often it had to be compiled.
    """

    @property
    def is_limited(self) -> bool: ...
    @property
    def compilations(self) -> int: ...

    def __call__(self, values: Any, masks: Any, active: Any, state: Any, /) -> Any: ...

    def prepare(self, values: Any, masks: Any, active: Any, /) -> Any:
        """Make ready what a call of such arrays needs, so that it fails before anything has moved, or not at all."""
        ...

    def initial_state(self) -> Any:
        """The state before the first step."""
        ...

    def initial_leaves(self) -> list[np.ndarray]:
        """Its leaves, in NumPy."""
        ...

    def fork(self, state: Any, /) -> Any:
        """The state for a call that must leave it as it is."""
        ...

    def to_numpy(self, state: Any, /) -> list[np.ndarray]:
        """Copies of its leaves."""
        ...

    def from_numpy(self, leaves: Any, like: Any = None) -> Any:
        """A state of leaves, with the random numbers of the start or those of another state."""
        ...

    def copied_rows(self, state: Any, sources: Any, targets: Any, /) -> Any:
        """The state in which row `targets[i]` is what row `sources[i]` was."""
        ...

    def limits(self, state: Any, /) -> Any:
        """What a state has room for, as `Room` reads it."""
        ...

    def saved(self, state: Any, /) -> tuple[list[np.ndarray], dict[int, Any], Any]:
        """Its leaves in the order in which the layers made them, what random numbers go on from, and a generator."""
        ...

    def restored(self, leaves: Any, seeds: Any, generator: Any, /) -> Any:
        """The state of what `saved` gave, here or elsewhere."""
        ...


class Runner(Protocol):
    """What runs an exported step: a call of one block.

    A call may take the memory of the state that it is given, unless it fails; a state that was taken raises a
    RuntimeError where it is used again.
    """

    def state(self, leaves: list[np.ndarray], /) -> Any:
        """A state of leaves, in the order of the manifest, which are copied."""
        ...

    def leaves(self, state: Any, /) -> list[np.ndarray]:
        """Copies of the leaves of a state, of the dtypes that the manifest says."""
        ...

    def __call__(self, inputs: list[np.ndarray], state: Any, /) -> tuple[list[np.ndarray], Any]:
        """The outputs of a block, and the next state.

        Args:
            inputs: values, then masks where the manifest has them, [B, block, ...]; neither kept nor written.
            state: of `state`, or of the call before.

        Returns:
            Values, then the masks that there are, which are the caller's to write; and the state.
        """
        ...


class StepsLeft(Protocol):
    """How many steps the rows of a stream still take.

    Attributes:
        left: steps that every row takes at least, int64 [B], or `None` where it is not known; a value, never written.
    """

    left: Any

    def forget(self) -> None:
        """Know nothing of a state that has changed by other than steps."""
        ...

    def feed(self, steps: Any, limits: Any, what: str, at: Any, /) -> bool:
        """Count steps that are to be fed; says whether only what comes after them tells that they were too many."""
        ...

    def check(self, limits: Any, before: Any, what: str, /) -> None:
        """Refuse what turns out to have been too many."""
        ...
