"""`check_layer`: every property of the contract, in an order in which a failure names its cause."""

from collections.abc import Iterable
from typing import Any, Literal

from ..layers.base import SequenceLayer
from . import fields, numerics, rolling, streaming, whole
from .subject import Subject

_FIRST = (whole.check_specs,)
_FIRST_OF_STEP = (streaming.check_initial_state, streaming.check_repeatable)
_LAYER_MODE = (whole.check_config, whole.check_masks, whole.check_rows)
_STEP_MODE = (
    streaming.check_resume,
    streaming.check_agreement,
    streaming.check_chunking,
    streaming.check_prefix,
    streaming.check_prefill,
    streaming.check_call,
    streaming.check_ragged,
    streaming.check_row_operations,
    rolling.check_room,
    rolling.check_rollback,
    rolling.check_context_change,
)
_BOTH = (
    streaming.check_eager,
    numerics.check_poison,
    fields.check_receptive_field,
    whole.check_edges,
)
_NUMBERS = (numerics.check_precision,)
_GRADIENTS = (numerics.check_gradients, numerics.check_context)


def check_layer(
    layer: SequenceLayer,
    input_shape: Iterable[int],
    *,
    dtype: str = "float32",
    rtol: float | None = None,
    atol: float | None = None,
    gradients: bool = True,
    integers: int = 4,
    seed: int = 0,
    context: dict[str, Any] | None = None,
    receptive_field: Literal["exact", "bound"] = "exact",
) -> None:
    """Test that a layer keeps the contract of `kseq.SequenceLayer`.

    Layer mode and step mode give the same numbers, whatever the chunks, the rows and what stands at invalid steps;
    what the layer declares (timing, specs, masks, configuration) is what it does; gradients and precision are right.
    `kseq.testing.PROPERTIES` lists the properties. The weights of the layer are changed at random.

    Args:
        layer: the layer; it is built if it is not.
        input_shape: (batch, time, *channels) of the inputs that it is tested with; at least 8 rows are used.
        dtype: of the inputs.
        rtol, atol: tolerances of comparisons between modes; by default by dtype. `atol` is relative to the largest
            output if that is above 1.
        gradients: whether to test gradients; turn it off for what is not differentiable.
        integers: integer inputs are drawn from `range(integers)`, at least 2.
        seed: of the random inputs and weights.
        context: of a layer that reads context, by name the shape (time, *channels) of every sequence in it, and of an
            array that is the same for all steps its channel shape.
        receptive_field: "bound" where no input outside the declared one may matter, but one inside need not: in a
            network whose layers pass on the largest of several steps, say.

    Raises:
        ContractError: a property that does not hold, with the position and the two values.
        TypeError: not a kseq layer, or one of several inputs or outputs.
        ValueError: an input shape without batch and time, or with a size below 1.

    Example:
        >>> import kseq
        >>> kseq.testing.check_layer(kseq.Delay(2), (2, 5, 1))
    """
    if not isinstance(layer, SequenceLayer):
        raise TypeError(f"check_layer takes a kseq layer; received {layer!r} of type {type(layer).__name__}")
    if layer.num_inputs > 1 or layer.num_outputs > 1:
        raise TypeError(
            f"check_layer takes layers of one input and one output; {layer.name} ({type(layer).__name__}) has "
            f"{layer.num_inputs} and {layer.num_outputs}"
        )
    subject = Subject(layer, tuple(input_shape), dtype, rtol, atol, seed, integers, context)
    subject.field_is_bound = receptive_field == "bound"
    if subject.steps:
        properties = [*_FIRST, *_FIRST_OF_STEP, *_LAYER_MODE, *_STEP_MODE]
    else:
        properties = [*_FIRST, *_LAYER_MODE, whole.check_obstacle]
    properties += [*_BOTH, *_NUMBERS, *(_GRADIENTS if gradients else ()), streaming.check_compiled]
    for check in properties:
        check(subject)
