"""`check_layer` catches a broken layer for every property that it names."""

import contextlib
import dataclasses
import math

import keras
import numpy as np
import pytest
from keras import ops
from sampling import todays

import kseq
from kseq import Sequence, SequenceLayer, SequenceSpec, Timing
from kseq.testing import PROPERTIES, ContractError, check_layer

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.5}

BROKEN = []


def broken(key, match="", *, input_shape=(2, 6, 2), **options):
    """Register a layer that must fail with a property, and with a message that matches."""

    def decorate(cls):
        skip = pytest.mark.skipif(options.pop("skip", False), reason="what is broken does not exist on this backend")
        BROKEN.append(pytest.param(cls, key, match, input_shape, options, id=f"{key}-{cls.__name__}", marks=skip))
        return cls

    return decorate


class Identity(SequenceLayer):
    """What the broken layers are made of."""

    def call_step(self, x, state, *, training=False):
        return x, state


@broken("1", r"must return \(Sequence, state\); received \(\w+, tuple\)")
class GivesTensors(Identity):
    def call_step(self, x, state, *, training=False):
        return x.values, state


@broken("1", r"must return \(Sequence, state\); received one Sequence")
class GivesNoState(Identity):
    def call_step(self, x, state, *, training=False):
        return x


@broken("1", r"call_layer must return a Sequence; received one")
class GivesTensorsAtOnce(Identity):
    def call_layer(self, x, *, training=False):
        return x.values


@broken("1", "received NumPy arrays, .* use keras.ops")
class UsesNumPy(Identity):
    def call_step(self, x, state, *, training=False):
        return Sequence(np.cumsum(np.asarray(ops.convert_to_numpy(x.values)), axis=-1), x.mask), state


@broken("S11", "runs eagerly; compiled it raised .* use keras.ops", skip=keras.backend.backend() == "torch")
class ComputesWithNumPy(Identity):
    def call_step(self, x, state, *, training=False):
        return x.apply(lambda v: ops.convert_to_tensor(np.cumsum(np.asarray(v), axis=-1))), state


class Scaled(Identity):
    """A weight, so that there are gradients of weights."""

    def build(self, input_shape):
        self.scale = self.add_weight(name="scale", shape=(input_shape[-1],), initializer="ones")

    def call_step(self, x, state, *, training=False):
        return x.apply(lambda v: v * self.weight(self.scale)), state


class Counting(Identity):
    """Adds a number to every step, which the state [B, 1] counts; right as it stands."""

    @property
    def timing(self):
        return Timing(receptive_field_per_step=((0, 0),))

    def initial_state(self, batch_size, input_spec):
        return ops.zeros((batch_size, 1), dtype="int32")

    def counts(self, mask):
        return ops.cast(mask, "int32")

    def call_step(self, x, state, *, training=False):
        position = state + ops.cumsum(self.counts(x.with_mask().mask), axis=1)
        return self.added(x, position), position[:, -1:]

    def added(self, x, position):
        shape = (*ops.shape(x.values)[:2], *[1] * (len(x.values.shape) - 2))
        return x.apply(lambda v: v + ops.cast(ops.reshape(position, shape), v.dtype))


class Previous(Identity):
    """The step before; right as it stands."""

    @property
    def timing(self):
        return Timing(receptive_field_per_step=((-1, -1),))

    def initial_state(self, batch_size, input_spec):
        return ops.zeros((batch_size, 1, *input_spec.shape), dtype=self.output_spec(input_spec).dtype)

    def call_step(self, x, state, *, training=False):
        joined = ops.concatenate([state, x.values], axis=1)
        return Sequence(joined[:, :-1], x.mask), joined[:, -1:]


@pytest.mark.parametrize("cls", [Identity, Scaled, Counting, Previous])
def test_unbroken(cls):
    check_layer(cls(), (2, 6, 2))


@broken("1", "dtype bfloat16")
class WrongDtype(Identity):
    def output_spec(self, input_spec):
        return SequenceSpec(input_spec.shape, "bfloat16")


@broken("1", r"shape \(8, 6, 3\)")
class WrongChannels(Identity):
    def output_spec(self, input_spec):
        return SequenceSpec((3,), input_spec.dtype)


@broken("1", "shape")
class WrongLength(Identity):
    @property
    def timing(self):
        return Timing(length_stages=((1, 1),))


@broken("1", "what the timing says")
class LengthBesidesTheTiming(Identity):
    def output_length(self, length):
        return max(length - 1, 0)


@broken("1", "finite")
class InfiniteOutput(Identity):
    def call_step(self, x, state, *, training=False):
        return x.apply(lambda v: ops.where(v == 0, np.inf, v)), state


@broken("M", "without mask")
class LosesMask(Identity):
    def call_step(self, x, state, *, training=False):
        return Sequence(x.values), state


@broken("M", "output_mask")
class WrongMaskRule(Identity):
    def output_mask(self, mask):
        return ops.ones_like(mask)


@broken("M", "creates_mask")
class HidesThatItCreatesMasks(Identity):
    def output_mask(self, mask):
        return ops.logical_and(mask, ops.arange(0, mask.shape[1])[None] > 0)

    def call_step(self, x, state, *, training=False):
        return Sequence(x.values, self.output_mask(x.with_mask().mask)), state


@broken("K", "compute_output_shape")
class WrongOutputShape(Identity):
    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 7)


@broken("K", "tensor")
class TensorsDiffer(Identity):
    def call(self, x, mask=None, training=None):
        y = super().call(x, mask, training)
        return y if isinstance(x, Sequence) else y + 1


@broken("7", "other rows")
class MixesRows(Identity):
    def call_step(self, x, state, *, training=False):
        return x.apply(lambda v: v + ops.mean(v, axis=0, keepdims=True)), state


@broken("N", "cannot step")
class SilentAboutSteps(Identity):
    @property
    def step_obstacle(self):
        return "it sees the end"

    def step(self, x, state, **kwargs):
        raise ValueError("it cannot step")


@broken("2", "values")
class LayerModeDiffers(Counting):
    def call_layer(self, x, *, training=False):
        return x


@broken("S1", "leading invalid")
class CountsInvalidSteps(Counting):
    def counts(self, mask):
        return ops.ones_like(mask, dtype="int32")


@broken("S2", "chunks of")
class CountsCalls(Counting):
    def call_step(self, x, state, *, training=False):
        return self.added(x, state + ops.zeros(x.values.shape[:2], dtype="int32")), state + 1


@broken("S3", "held rows")
class ForgetsToHold(Counting):
    def step(self, x, state, *, active=None, **kwargs):
        y, state = super().step(x, state, **kwargs)
        mask = y.with_mask().mask
        return Sequence(y.values, mask if active is None else ops.logical_and(mask, active[:, None])), state


@broken("S3", "mask")
class ValidWhereHeld(Counting):
    def step(self, x, state, *, active=None, **kwargs):
        y, state = super().step(x, state, active=active, **kwargs)
        return Sequence(y.values, x.mask), state


@broken("S4", "permutation")
class KnowsRowNumbers(Counting):
    def call_step(self, x, state, *, training=False):
        rows = ops.arange(0, x.values.shape[0], dtype="int32")[:, None]
        return self.added(x, rows + ops.zeros(x.values.shape[:2], dtype="int32")), state


@broken("S5", "second run")
class KeepsStateInPython(Identity):
    count = 0

    def call_step(self, x, state, *, training=False):
        self.count += 1
        return x.apply(lambda v: v + self.count), state


@broken("S5", "resumed in a copy")
class RemembersInPython(Counting):
    """What it reads after the first block is not in the state."""

    last = 0.0

    def call_step(self, x, state, *, training=False):
        y = self.added(x, ops.cast(state > 0, "float32") * self.last + ops.zeros(x.values.shape[:2]))
        with contextlib.suppress(Exception):  # a value that is being traced
            self.last = float(np.nan_to_num(ops.convert_to_numpy(x.values)).mean())
        return y, state + 1


@broken("S6", "batch first")
class ScalarState(Identity):
    def initial_state(self, batch_size, input_spec):
        return ops.zeros((), dtype="int32")

    def call_step(self, x, state, *, training=False):
        return x, state + x.values.shape[1]


@broken("S6", "was")
class GrowingState(Identity):
    def initial_state(self, batch_size, input_spec):
        return ops.zeros((batch_size, 0, *input_spec.shape))

    def call_step(self, x, state, *, training=False):
        return x, ops.concatenate([state, x.values], axis=1)


@broken("S6", "float32")
class StateChangesDtype(Counting):
    def call_step(self, x, state, *, training=False):
        return x, ops.cast(state, "float32")


@broken("S7", "warm-up")
class WarmUpIsValid(Identity):
    @property
    def timing(self):
        return Timing(input_latency=1, output_latency=1)

    def call_layer(self, x, *, training=False):
        return x

    def initial_state(self, batch_size, input_spec):
        return {
            "values": ops.zeros((batch_size, 1, *input_spec.shape), dtype=self.compute_dtype),
            "mask": ops.ones((batch_size, 1), dtype="bool"),
        }

    def call_step(self, x, state, *, training=False):
        x = Sequence.concatenate([Sequence(state["values"], state["mask"]), x])
        return x.slice_time(None, -1), x.slice_time(-1, None)._asdict()


@broken("S7", "beyond the last output")
class ValidAfterTheEnd(Identity):
    """A bound on the length that only layer mode knows."""

    @property
    def timing(self):
        return Timing(length_stages=((1, -2), (1, 1)))

    def output_mask(self, mask):
        return mask[:, : self.output_length(mask.shape[1])]


@broken("S7", "a block more")
class TooMuchLatency(Identity):
    @property
    def timing(self):
        return Timing(input_latency=2)


@broken("S7", "wanted")
class TooLittleLatency(kseq.Delay):
    def __init__(self, length=2, **kwargs):
        super().__init__(length, **kwargs)

    @property
    def timing(self):
        return dataclasses.replace(super().timing, input_latency=1)


@broken("S8", "NaN at invalid steps")
class PoisonLeaks(Previous):
    invalid_value = None

    def initial_state(self, batch_size, input_spec):
        return super().initial_state(batch_size, input_spec)


@broken("S8", "gradient of")
class PoisonLeaksIntoGradients(Scaled):
    invalid_value = None


@broken("S8", "invalid steps of the context", context={"source": (4, 2)})
class ReadsPaddingOfItsContext(Identity):
    context_names = ("source",)

    def build(self, input_shape, context_shape):
        pass

    def initial_state(self, batch_size, input_spec, context):
        values = ops.cast(context["source"].values, self.compute_dtype)
        return ops.sum(values, axis=(1, 2))[:, None]

    def call_step(self, x, state, *, training=False):
        return x.apply(lambda v: v + state[:, :, None]), state


@broken("S10", "chunks of")
class LongChunksStartAnew(Counting):
    def call_step(self, x, state, *, training=False):
        return super().call_step(x, state if x.values.shape[1] < 4 else ops.zeros_like(state))


@broken("S11", "eager", skip=keras.backend.backend() == "torch")
class KnowsWhetherItIsCompiled(Identity):
    def call_step(self, x, state, *, training=False):
        try:
            np.asarray(x.values[:1, :1])
        except Exception:
            return x, state
        return x.apply(lambda v: v + 1), state


@broken("S13", "float64")
class Cancels(Identity):
    def call_step(self, x, state, *, training=False):
        return x.apply(lambda v: (v + 1e4 * ops.abs(v)) - 1e4 * ops.abs(v)), state


@broken("S13", "declared", gradients=False)
class AlwaysFloat32(Identity):
    def call_step(self, x, state, *, training=False):
        return x.apply(lambda v: ops.cast(v, "float32")), state


@broken("S14", "step")
class NoGradientThroughTheState(Previous):
    def call_layer(self, x, *, training=False):
        return Sequence(ops.pad(x.values, [(0, 0), (1, 0), (0, 0)])[:, :-1], x.mask)

    def call_step(self, x, state, *, training=False):
        return super().call_step(x, ops.stop_gradient(state))


@broken("S14", "derivative along a random direction")
class WrongGradient(Scaled):
    def call_step(self, x, state, *, training=False):
        def half(v):
            return v - ops.stop_gradient(v) / 2 + ops.stop_gradient(v) / 2 - 0.5 * (v - ops.stop_gradient(v))

        return x.apply(lambda v: half(v * self.weight(self.scale))), state


@broken("S14", "finite gradient")
class GradientIsNaN(Scaled):
    def call_step(self, x, state, *, training=False):
        return x.apply(lambda v: ops.where(v == 0, 1.0, self.weight(self.scale) * ops.sin(v) / v)), state


@broken("S15", "outside the declared")
class FieldTooNarrow(Previous):
    @property
    def timing(self):
        return Timing()


@broken("S15", "no output of phase 0 depends on the input at -2")
class FieldTooWide(Previous):
    @property
    def timing(self):
        return Timing(receptive_field_per_step=((-2, -1),))


@broken("S15", "no output of phase 0 depends on the input at -inf")
class FieldIsNotInfinite(Previous):
    @property
    def timing(self):
        return Timing(receptive_field_per_step=((-math.inf, -1),))


@broken("S15", "no output of phase 1")
class WrongFieldOfOnePhase(Identity):
    @property
    def timing(self):
        return Timing(ratio=2, receptive_field_per_step=((0, 0), (-1, 0)))

    def call_step(self, x, state, *, training=False):
        return Sequence(ops.repeat(x.values, 2, axis=1), self.output_mask(x.with_mask().mask)), state


@broken("S15", "outside the declared", input_shape=(2, 6), dtype="int32")
class FieldOfIntegers(Previous):
    @property
    def timing(self):
        return Timing()


class Rolling(Counting):
    """Remembers its last three counts, so that it can be rolled back by two steps; right as it stands."""

    def initial_state(self, batch_size, input_spec):
        return {"counts": ops.zeros((batch_size, 3), dtype="int32"), "fed": ops.zeros((batch_size, 1), dtype="int32")}

    def call_step(self, x, state, *, training=False):
        position = state["counts"][:, -1:] + ops.cumsum(self.counts(x.with_mask().mask), axis=1)
        counts = ops.concatenate([state["counts"], position], axis=1)[:, -3:]
        return self.added(x, position), {"counts": counts, "fed": ops.minimum(state["fed"] + x.values.shape[1], 2)}

    def history(self, state):
        return state["fed"][:, 0]

    def room(self, state):
        return 10 - state["fed"][:, 0]

    def call_rollback(self, state, steps):
        index = ops.maximum(ops.arange(3, dtype="int32")[None] - steps[:, None], 0)
        counts = ops.take_along_axis(state["counts"], index, axis=1)
        return {"counts": counts, "fed": state["fed"] - steps[:, None]}


def test_a_layer_that_can_be_rolled_back():
    check_layer(Rolling(), (2, 6, 2))


@broken("S9", r"room for \[8, 8, .*, wanted at least \[9, 9")
class TakesTwoForOne(Rolling):
    def room(self, state):
        return 10 - 2 * state["fed"][:, 0]


@broken("S12", "values")
class RollsBackTooFar(Rolling):
    def call_rollback(self, state, steps):
        return super().call_rollback(state, 2 * steps)


@broken("S12", "not rolled back")
class RollsBackAllRows(Rolling):
    def call_rollback(self, state, steps):
        return super().call_rollback(state, ops.ones_like(steps))


@broken("S16", "leaf 1 .*begun with it", context={"source": (5, 2)})
class ForgetsAPartOfItsContext(Identity):
    context_names = ("source",)
    context_state = ("first",)

    def build(self, input_shape, context_shape):
        pass

    def initial_state(self, batch_size, input_spec, context):
        source = self.standardize_context(context)["source"].values
        return {"first": ops.copy(source[:, 0, 0]), "second": ops.copy(source[:, 0, 1])}

    def call_step(self, x, state, *, training=False):
        shape = (-1, *[1] * (len(x.values.shape) - 1))
        return x.apply(lambda v: v + ops.reshape(state["first"] + state["second"], shape)), state


@broken("S10", "call")
class CallForgetsTheState(Counting):
    def go_on(self, x, state, context, training):
        return super().go_on(x, None, context, training)[0], state


@broken("S17", "configuration")
class ForgetsAnArgument(Identity):
    def __init__(self, offset=0, **kwargs):
        super().__init__(**kwargs)
        self.offset = offset

    def get_config(self):
        return {k: v for k, v in super().get_config().items() if k != "offset"} | {"other": self.offset}

    @classmethod
    def from_config(cls, config):
        config.pop("other")
        return cls(**config) if "offset" in config else cls(3, **config)


@broken("S17", "get_config raised")
class ConfigIsNotJSON(Identity):
    def get_config(self):
        return super().get_config() | {"function": np.tanh}


@broken("S17", "no_such_argument")
class TakesAnyArgument(Identity):
    def __init__(self, **kwargs):
        super().__init__(**{k: v for k, v in kwargs.items() if k != "no_such_argument"})


@broken("S17", r"\(copy\) against")
class CopyComputesSomethingElse(Identity):
    made = 0

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        type(self).made += 1
        self.number = type(self).made

    def call_step(self, x, state, *, training=False):
        return x.apply(lambda v: v + self.number), state


@broken("S20", "one step")
class NeedsTwoSteps(Identity):
    def call_layer(self, x, *, training=False):
        if x.values.shape[1] < 2:
            raise RuntimeError("too few steps")
        return x


@broken("S20", "no steps")
class CannotStepOverNothing(Previous):
    def step(self, x, state, **kwargs):
        if not x.values.shape[1]:
            raise RuntimeError("no steps")
        return super().step(x, state, **kwargs)


@broken("S20", "of a block")
class TakesPartsOfABlock(Identity):
    @property
    def timing(self):
        return Timing(block_size=2)

    def step(self, x, state, *, active=None, **kwargs):
        if x.values.shape[1] == 1:
            return self.call_step(x, state)
        return super().step(x, state, active=active, **kwargs)


@pytest.mark.parametrize(
    ("cls", "key", "match", "input_shape", "options"), todays(BROKEN, of="broken layers", jax=0.5, tensorflow=0.1)
)
def test_broken(cls, key, match, input_shape, options):
    with pytest.raises(ContractError, match=match) as error:
        check_layer(cls(), input_shape, **options)
    assert str(error.value).startswith(f"{key} ({PROPERTIES[key]})"), str(error.value)


def test_every_property_has_a_broken_layer():
    assert {param.values[1] for param in BROKEN} == set(PROPERTIES)


def test_message_has_position_and_values():
    with pytest.raises(
        ContractError, match=r"at \[batch, time, \.\.\.\] = \[\d+, \d+, \d+\]: [-.\d]+ \(step\) against"
    ):
        check_layer(LayerModeDiffers(), (2, 6, 2))


def test_a_layer_of_two_outputs_is_refused():
    layer = kseq.CrossAttention(2, 2, return_attention_scores=True)
    with pytest.raises(TypeError, match=r"one input and one output; .*CrossAttention.* has 1 and 2"):
        kseq.testing.check_layer(layer, (2, 3, 4), context={"source": (3, 4)})
