"""How an adapter is found for what a model calls, and what stands in its place where there is none."""

import importlib
import inspect
from typing import Any

import keras

from ...layers.base import SequenceLayer
from ...model_graph import map_structure, tensors
from ...obstacles import Obstacle
from ...registry import adapter_of, registered_layers
from ...timing import Timing
from .adapted import Adapted
from .call_site import CallSite
from .operation import Held, InputSlot, Operation
from .operations import check_operation
from .refusal import Refusal
from .refused import refusal_of
from .shapes import reshaped

# Modules with the adapters of packages that kseq does not need, by the package.
_OF_OTHERS = {"keras_hub": ".hub"}


class Unadapted(Adapted):
    """A Keras layer, model or operation that does not stream, in a model whose other layers are looked at.

    Args:
        adapted: what it stands for.
        obstacles: why, a row for each layer.
        specs: a `SequenceSpec` for each output.
        num_inputs: how many sequences it reads.
    """

    num_inputs: int

    def __init__(self, adapted: Any, obstacles: Any, specs: Any, num_inputs: Any) -> None:
        super().__init__(name=adapted.name)
        self.adapted, self.num_inputs = adapted, num_inputs
        self._held = Held((list(obstacles), tuple(specs)))
        self.built = True

    def obstacles(self) -> list[Obstacle]:
        return self._held.value[0]

    @property
    def step_obstacle(self) -> str | None:
        return "; ".join(row.reason for row in self.obstacles())

    @property
    def timings(self) -> tuple[Timing, ...]:
        return (self.timing,) * len(self._held.value[1])

    def output_spec(self, input_spec: Any) -> Any:
        specs = self._held.value[1]
        return specs if len(specs) > 1 else specs[0]


def adapt(call: Any, specs: Any, outputs: Any, site: CallSite) -> SequenceLayer:
    """The streaming layer of a call of a Keras layer or operation, or `Unadapted` with the reason.

    Args:
        call: a `kseq.model_graph.Call`, with `InputSlot`s in the place of tensors.
        specs: of the inputs, by the slots' numbers.
        outputs: specs of the outputs.
        site: where in the model it is called.
    """
    operation = call.operation
    try:
        if isinstance(operation, keras.layers.Layer):
            made = _adapted(call, specs, site)
        else:
            made = _operating(call, specs, site)
        if len(outputs) != made.num_outputs:
            raise Refusal("it has several outputs")
        return made
    except Refusal as error:
        reason, instead = error.reason, error.instead
    except (TypeError, ValueError) as error:
        reason, instead = str(error), None
    row = Obstacle(operation.name, type(operation).__name__, reason, instead)
    return Unadapted(operation, [row], outputs, len(specs))


def _operating(call, specs, site):
    """An operation of Keras's, whose classes have no public names."""
    ends = list(tensors(call.outputs))
    if type(call.operation).__name__ in ("Reshape", "Ravel"):
        return reshaped(call.operation, specs[0], ends[0].shape, site)
    check_operation(call, specs)
    return Operation(call.operation, call.arguments, call.keywords, len(specs), len(ends))


def _adapted(call, specs, site):
    layer = call.operation
    _load_adapters(layer)
    refusal, adapter = refusal_of(layer), adapter_of(layer)
    if refusal is not None:
        raise refusal
    if adapter is None:
        raise Refusal("it has no streaming form", _instead(layer))
    taken = inspect.signature(adapter).parameters
    known = {"site": site, "call": call}
    given = {name: value for name, value in known.items() if name in taken}
    if "call" in taken:
        return adapter(layer, specs, **given)
    first, *more = call.arguments
    if more:
        raise Refusal("it is called with several positional arguments, which its adapter does not take")
    if len(_slots_of(first)) < len(specs):
        raise Refusal("it is called with tensors by name, which its adapter does not take")
    first = list(first) if isinstance(first, tuple) else first  # Keras takes both, where there are several inputs
    specs = map_structure(lambda leaf: specs[leaf.index] if isinstance(leaf, InputSlot) else leaf, first)
    return adapter(layer, specs, **given, **_options(call, taken))


def _load_adapters(layer) -> None:
    """Load the adapters of the packages that a layer's classes are from."""
    for package in {cls.__module__.partition(".")[0] for cls in type(layer).__mro__} & _OF_OTHERS.keys():
        importlib.import_module(_OF_OTHERS[package], __package__)


def _options(call, taken) -> dict[str, Any]:
    """The keyword arguments of a call, if its adapter takes them."""
    given = {key: value for key, value in call.keywords.items() if value is not None}
    several = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
    if not several and given.get("training") is False:  # as Keras notes it where nothing was said
        given.pop("training")
    for name, value in given.items():
        if not several and name not in taken:
            raise Refusal(f"it is called with {name}={value!r}, which its adapter does not take")
    return given


def _instead(layer):
    """What to use instead of a layer without adapter, if anything is known."""
    name = type(layer).__name__
    if getattr(keras.layers, name, None) is not type(layer):
        return "@kseq.pointwise if it treats every step by itself, or an adapter (kseq.adapts)"
    return f"kseq.{name}" if name in registered_layers() else None


def _slots_of(structure) -> list[InputSlot]:
    if isinstance(structure, InputSlot):
        return [structure]
    parts_of = structure.values() if isinstance(structure, dict) else structure
    return [slot for part in parts_of for slot in _slots_of(part)] if isinstance(structure, (dict, list, tuple)) else []
