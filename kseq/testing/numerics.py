"""Properties of numbers: poison, gradients, precision."""

import keras
import numpy as np
from keras import ops

from ..sequence import Sequence
from ..streaming import compiled
from .errors import attempt, expect_same, fail, numpy, wide
from .subject import Subject, check_state, to_numpy

_EPSILONS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
# Errors of rounding, in epsilons of the largest value: sums of tens of terms, a few layers deep.
_ROUNDINGS = 64
# Pure and mixed, one of each float of half the size: the other two combinations add no new code path.
_POLICIES = ("bfloat16", "mixed_float16")


def poisons(s: Subject):
    """Values that must not matter, by name."""
    if s.is_float:
        # Half of the largest number, so that the value itself is finite but no sum or square of it is.
        huge = float(ops.convert_to_numpy(ops.cast(1e4 if s.dtype == "float16" else 1e38, "float32")))
        return {"NaN": np.nan, "+inf": np.inf, "-inf": -np.inf, "huge": huge}
    if s.dtype == "bool":
        return {"True": True}
    info = np.iinfo(s.dtype)
    return {"largest": info.max, "smallest": info.min}


def poisoned(s: Subject, x: Sequence, value) -> Sequence:
    values = x.values.copy()
    values[~x.mask] = value
    return Sequence(values, x.mask)


def check_poison(s: Subject):
    """Property S8, forward: in layer mode and in a stream, by a long step and by short ones."""
    x = Sequence(s.values, s.mask)
    for name, value in poisons(s).items():
        y = to_numpy(s.layer_mode(poisoned(s, x, value).values, s.mask)[0])
        names = (f"with {name} at invalid steps", "with zero")
        expect_same("S8", y.mask, s.expected().mask, "mask of layer mode", names=names)
        expect_same(
            "S8",
            y.values,
            s.expected().values,
            "values of layer mode",
            where=s.expected().mask,
            names=names,
            rtol=s.rtol,
            atol=s.atol,
        )
        if s.steps:
            partition = s.partition(s.total - s.blocks, first=(3, 1))
            y, _ = s.stream(poisoned(s, s.padded(x), value), [*partition, s.blocks])
            s.expect_stream("S8", y, f"{name} at invalid steps, chunks of {[*partition, s.blocks]} blocks")


class Gradients:
    """The loss of layer mode, and of a stream in two chunks, with their gradients."""

    def __init__(self, s: Subject, layer, dtype):
        self.s, self.layer, self.dtype = s, layer, dtype
        length = s.expected().values.shape[1]
        self.cotangent = s.rng.standard_normal((s.batch, length, *s.output_spec.shape))
        self.of_layer = compiled.value_and_gradients(
            lambda values, mask, weight: self._loss(layer(Sequence(values, mask)), weight),
            layer.trainable_variables,
            of_values=s.is_float,
        )
        self.of_step = compiled.value_and_gradients(self._stream, layer.trainable_variables, of_values=s.is_float)

    def _loss(self, y, weight):
        y = y.with_mask()
        # Chosen rather than multiplied, since what stands at invalid steps may be infinite.
        valid = ops.where(y.expanded_mask(), y.values, ops.zeros_like(y.values))
        dtype = keras.backend.standardize_dtype(weight.dtype)
        return ops.sum(ops.cast(valid, dtype) * weight), y.values

    def _stream(self, values, mask, weight):
        s, first = self.s, self.s.timing.output_latency
        cut = max(1, s.blocks // 2) * s.block
        state, outputs = self.layer.initial_state(s.batch, s.spec), []
        for part in (slice(0, cut), slice(cut, None)):
            if values[:, part].shape[1]:
                y, state = self.layer.step(Sequence(values[:, part], mask[:, part]), state)
                outputs.append(y)
        y = Sequence.concatenate(outputs) if len(outputs) > 1 else outputs[0]
        return self._loss(y.slice_time(first, first + weight.shape[1]), weight)

    def __call__(self, x: Sequence, weights, *, step=False):
        """Loss, outputs, and gradients by name, in NumPy."""
        values = x.values.astype(self.dtype) if self.s.is_float else x.values
        run = self.of_step if step else self.of_layer
        with attempt("S14", "the gradient"):
            loss, y, of_values, of_weights = run(
                values, [w.astype(self.dtype) for w in weights], x.mask, self.cotangent.astype(self.dtype)
            )
        found = {} if of_values is None else {"input": numpy(of_values)[:, : self.s.time]}
        names = [v.path for v in self.layer.trainable_variables]
        return float(numpy(loss)), numpy(y), found | dict(zip(names, map(numpy, of_weights), strict=True))


def check_gradients(s: Subject):
    """Properties S14 and S8: gradients of layer and step, of poisoned inputs, and finite differences in float64."""
    x, weights = Sequence(s.values, s.mask), s.weights()
    if not s.output_is_float or not (s.is_float or weights):
        return
    gradients = Gradients(s, s.layer, "float32" if s.layer.variable_dtype != "float64" else "float64")
    _, _, clean = gradients(x, weights)
    for name, g in clean.items():
        expect_same("S14", np.isfinite(g), np.ones(g.shape, bool), f"finite gradient of {name}")
    steps = gradients(s.padded(x, s.blocks), weights, step=True)[2] if s.steps else {}
    for name, g in steps.items():
        _expect_close(s, "S14", g, clean[name], f"gradient of {name}", ("step", "layer"))
    for poison, value in poisons(s).items():
        found = {"layer": gradients(poisoned(s, x, value), weights)[2]}
        if s.steps:
            found["step"] = gradients(poisoned(s, s.padded(x, s.blocks), value), weights, step=True)[2]
        for mode, by_name in found.items():
            for name, g in by_name.items():
                names = (f"{mode} with {poison} at invalid steps", "with zero")
                _expect_close(s, "S8", g, clean[name], f"gradient of {name}", names)
    s.gradients = clean, gradients.cotangent


def _expect_close(s, key, found, wanted, what, names):
    # Sums over batch and time: a little wider than the tolerance of one output.
    expect_same(key, found, wanted, what, rtol=4 * s.rtol, atol=4 * s.atol, names=names)


def check_against_float64(s: Subject):
    """Properties S14 and S13 against a copy in float64: finite differences, and the error of this layer's outputs."""
    if not s.output_is_float:
        return
    weights = [w.astype("float64") for w in s.weights()]
    x = Sequence(s.values, s.mask)
    with compiled.float64():
        exact = Gradients(s, s.copy("float64"), "float64")
        _, y, found = exact(x, weights)
        for name, g in found.items():
            _check_difference(s, exact, x, weights, name, g)
    s.exact = Sequence(y, s.expected().mask)
    _expect_rounding(s, s.expected(), _dtype_of(s.layer), "layer mode")


def _check_difference(s, exact, x, weights, name, gradient):
    """The derivative along a random direction, by several steps: short ones for kinks, a long one for float32 inside."""
    direction = s.rng.standard_normal(gradient.shape)
    wanted = float((wide(gradient) * direction).sum())
    scale = float(np.sqrt((wide(gradient) ** 2).sum()))
    found = []
    for h in (1e-5, 1e-7, 1e-3):
        ends = []
        for sign in (h, -h):
            values, moved = x.values, list(weights)
            if name == "input":
                values = values.astype("float64") + sign * direction
            else:
                i = [v.path for v in exact.layer.trainable_variables].index(name)
                moved[i] = moved[i] + sign * direction
            ends.append(exact(Sequence(values, x.mask), moved)[0])
        found.append((ends[0] - ends[1]) / (2 * h))
        if abs(found[-1] - wanted) <= 1e-3 * scale + 1e-9:
            return
    fail(
        "S14",
        f"derivative along a random direction of {name}: {wanted:.8g} (gradient) against "
        f"{', '.join(f'{v:.8g}' for v in found)} (finite differences, steps 1e-5, 1e-7, 1e-3)",
    )


def check_precision(s: Subject):
    """Property S13 (with 2 and S6) under dtype policies of half the size."""
    if not s.output_is_float:
        return
    for policy in _POLICIES:
        layer = s.copy(policy)
        with attempt("S13", f"under the policy {policy}"):
            y, streamed = _both_modes(s, layer, policy)
        dtype = layer.compute_dtype
        declared = layer.output_spec(s.spec).dtype
        if keras.backend.standardize_dtype(y.values.dtype) != declared:
            found = keras.backend.standardize_dtype(y.values.dtype)
            fail("S13", f"under the policy {policy}: outputs of dtype {found} (received) against {declared} (declared)")
        y = to_numpy(y)
        expect_same("S13", y.mask, s.expected().mask, f"mask under the policy {policy}", names=(policy, s.layer.compute_dtype))
        _expect_rounding(s, y, dtype, f"layer mode under the policy {policy}")
        if streamed is not None:
            _expect_rounding(s, to_numpy(streamed), dtype, f"step mode under the policy {policy}")


def _both_modes(s, layer, policy):
    def run(values, mask):
        y = layer(Sequence(values, mask))
        if not s.steps:
            return y, None
        x, outputs = s.padded(Sequence(values, mask), s.blocks), []
        state = layer.initial_state(s.batch, s.spec)
        cut = max(1, s.blocks // 2) * s.block
        for part in (slice(0, cut), slice(cut, None)):
            if x.values[:, part].shape[1]:
                z, after = layer.step(Sequence(x.values[:, part], x.mask[:, part]), state)
                check_state(after, state, s.batch, f"under the policy {policy}")
                state = after
                outputs.append(z.with_mask())
        first = s.timing.output_latency
        streamed = Sequence.concatenate(outputs) if len(outputs) > 1 else outputs[0]
        return y, streamed.slice_time(first, first + y.values.shape[1])

    return s.compile(run, policy)(ops.convert_to_tensor(s.values), ops.convert_to_tensor(s.mask))


def _dtype_of(layer):
    return layer.compute_dtype


def _expect_rounding(s, y, dtype, what):
    """Fail where the error against float64 is beyond what rounding in a dtype makes of it."""
    limit = _ROUNDINGS * _EPSILONS.get(dtype, _EPSILONS["float32"])
    expect_same(
        "S13", y.values, s.exact.values, what, rtol=limit, atol=limit, where=y.mask & s.exact.mask, names=(dtype, "float64")
    )
