"""`Lambda`: a function of the user's as a layer."""

from typing import Any, Unpack

import keras
from keras import ops

from ...annotations import LayerOptions
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ..base import Example
from ..parameters import Parameters
from ..stepwise import StepwiseLayer, fails, mixes_time
from ..structures import specs_of


@register
class Lambda(StepwiseLayer):
    """What a function makes of every step.  [B, T, ...] -> [B, T, ...].

    The function may change channels and dtype, not batch and time. It is tried when the layer is first asked to step:
    one that does not treat every step by itself has layer mode alone. Mask: unchanged; of a function of sequences what
    it gives. Timing: none.

    A model with a Python lambda is saved and loaded as with `keras.layers.Lambda`: its code is part of the file, which
    loads with `safe_mode=False` alone. Specs, which are no programs, do not name it: write a layer of your own
    (`kseq.register`).

    Args:
        function: a function of values [B, T, ...] that gives values.
        mask_required: whether outputs at invalid steps are set to zero.
        sequence_input: whether the function takes a `Sequence`, and gives one.
        expected_input_spec: channel shape and dtype (a `SequenceSpec`) that the input must have, after the cast to the
            layer's dtype; or `None`.

    Raises:
        TypeError: no function, or one that gives something else than it should.
        ValueError: another input than expected, or another batch or time in the output.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.Lambda(lambda x: 2 * x[..., :1])
        >>> np.asarray(layer(np.array([[[1.0, 2.0]]], "float32"))).tolist()
        [[[2.0]]]
    """

    function: Any
    mask_required: bool
    sequence_input: bool
    expected_input_spec: SequenceSpec | None

    in_specs = False

    def __init__(
        self,
        function: Any,
        mask_required: bool = False,
        sequence_input: bool = False,
        expected_input_spec: SequenceSpec | tuple[Any, ...] | list[Any] | None = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        if not callable(function):
            raise TypeError(f"`function` must be a function; received {function!r}")
        self.function, self.mask_required, self.sequence_input = function, mask_required, sequence_input
        if expected_input_spec is not None:
            shape, dtype = expected_input_spec
            expected_input_spec = SequenceSpec(tuple(shape), keras.backend.standardize_dtype(dtype))
        self.expected_input_spec = expected_input_spec
        self._tried = self._of_mask_as_values if sequence_input else function

    @property
    def creates_mask(self) -> bool:
        return self.sequence_input

    @property
    def mask_reads_values(self) -> bool:
        return self.sequence_input

    def build(self, input_shape: Any) -> None:
        expected = self.expected_input_spec
        if expected is not None:
            self._check_input(SequenceSpec(tuple(input_shape[2:]), expected.dtype))

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        spec = self.cast_spec(input_spec)
        self._check_input(spec)
        (y,) = specs_of(lambda: [self._applied(Sequence(ops.zeros((1, 1, *spec.shape), dtype=spec.dtype))).values])
        return SequenceSpec(tuple(y.shape[2:]), keras.backend.standardize_dtype(y.dtype))

    @property
    def step_obstacle(self) -> str | None:
        expected, shape = self.expected_input_spec, self.channel_shape
        if expected is not None:
            specs = [expected]
        elif shape is not None:  # floats, or where it takes none integers
            specs = [SequenceSpec(shape, dtype) for dtype in (self.compute_dtype, "int32")]
        else:
            return None  # what it can be tried on is not known
        masks = [SequenceSpec((), "bool")] if self.sequence_input else []
        found = []
        for spec in specs:
            why = mixes_time(self._tried, *zip(spec, *masks, strict=True))
            if why is None:
                return None
            found.append(why)
        why = next((why for why in found if not fails(why)), found[0])
        name = getattr(self.function, "__name__", self.function)
        return f"its function {name!r} does not treat every step by itself: {why}"

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        self._check_input(x.spec)
        y = self._applied(x)
        found, given = tuple(y.values.shape[:2]), tuple(x.values.shape[:2])
        if any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(found, given, strict=True)):
            raise ValueError(f"{self.name} (Lambda): its function must keep batch and time {given}; received {found}")
        return y.mask_invalid() if self.mask_required else y

    def _applied(self, x):
        if not self.sequence_input:
            return Sequence(ops.convert_to_tensor(self.function(x.values)), x.mask).check()
        y = self.function(x)
        if not isinstance(y, Sequence):
            raise TypeError(f"{self.name} (Lambda): its function must give a Sequence; received {type(y).__name__}")
        return y.check().with_mask()

    def _of_mask_as_values(self, values, mask):
        """What the function makes of a sequence, mask and all, as values."""
        y = self._applied(Sequence(values, mask))
        flat = ops.reshape(ops.cast(y.values, "float32"), (*y.values.shape[:2], -1))
        return ops.concatenate([flat, ops.cast(y.mask, "float32")[..., None]], axis=-1)

    def _check_input(self, spec):
        if self.expected_input_spec not in (None, spec):
            raise ValueError(f"{self.name} (Lambda) expects values of {self.expected_input_spec}; received {spec}")

    def get_config(self) -> dict[str, Any]:
        expected = self.expected_input_spec
        return super(Parameters, self).get_config() | {
            "function": keras.layers.Lambda(self.function).get_config()["function"],
            "mask_required": self.mask_required,
            "sequence_input": self.sequence_input,
            "expected_input_spec": expected and [list(expected.shape), expected.dtype],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        # Keras's own layer knows whether code may be loaded here.
        loaded = keras.layers.Lambda.from_config({"function": config["function"]})
        config = config | {"function": loaded.function}
        if not config.get("arguments"):  # which Keras's has, empty
            config.pop("arguments", None)
        return super().from_config(config)

    @classmethod
    def examples(cls) -> list[Example]:
        return []  # a function of Python's has no place in JSON
