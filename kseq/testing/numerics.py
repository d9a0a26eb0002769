"""Properties of numbers: poison, gradients, precision."""

import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from ..layers.complex_values import joined
from ..sequence import Sequence
from . import transforms
from .errors import attempt, expect_same, fail, numpy, wide
from .subject import Subject, check_state, to_numpy

_EPSILONS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
# Errors of rounding, in epsilons of the largest value: sums of tens of terms, a few layers deep.
_ROUNDINGS = 64
# Pure and mixed, one of each float of half the size, each in one mode: every further run is compiled. In layer mode
# Keras casts weights by itself, so it is the step that shows a weight of a mixed policy that is not cast.
_POLICIES = {"bfloat16": "layer", "mixed_float16": "step"}


def poisons(s: Subject) -> Any:
    """Values that must not matter, by name."""
    if s.is_float:
        # Huge: finite itself, but no square of it is.
        return {"NaN": np.nan, "+inf": np.inf, "-inf": -np.inf, "huge": 1e4 if s.dtype == "float16" else 1e38}
    if s.dtype == "bool":
        return {"True": True}
    info = np.iinfo(s.dtype)
    return {"largest": info.max, "smallest": info.min}


def poisoned(s: Subject, x: Sequence, value: Any) -> Sequence:
    values = x.values.copy()
    values[~x.mask] = complex(value, value) if np.iscomplexobj(values) else value
    return Sequence(values, x.mask)


def check_poison(s: Subject) -> None:
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


class Loss:
    """A random weighting of the valid outputs of layer mode, or of a stream in two chunks.

    Complex values are real and imaginary part, on a last axis of two: what gradients of complex numbers are the
    backends do not agree on.
    """

    s: Subject
    layer: Any
    weighting: Any

    def __init__(self, s: Subject, layer: Any) -> None:
        self.s, self.layer = s, layer
        parts = (2,) if s.output_is_complex else ()
        self.weighting = s.rng.standard_normal((s.batch, s.expected().values.shape[1], *s.output_spec.shape, *parts))

    def of_layer(self, values: Any, mask: Any, weighting: Any) -> Any:
        """Loss and outputs."""
        return self.weighted(self.s.call(Sequence(self._whole(values), mask), self.layer), weighting)

    def of_stream(self, values: Any, mask: Any, weighting: Any) -> Any:
        s, first = self.s, self.s.timing.output_latency
        y = in_two_chunks(s, self.layer, Sequence(self._whole(values), mask))
        return self.weighted(y.slice_time(first, first + weighting.shape[1]), weighting)

    def _whole(self, values):
        return joined(values[..., 0], values[..., 1]) if self.s.is_complex else values

    def weighted(self, y: Any, weighting: Any) -> Any:
        """Loss of outputs, and their values."""
        y = y.with_mask()
        # Chosen rather than multiplied, since what stands at invalid steps may be infinite.
        valid = ops.where(y.expanded_mask(), y.values, ops.zeros_like(y.values))
        if self.s.output_is_complex:
            valid = ops.stack([ops.real(valid), ops.imag(valid)], axis=-1)
        dtype = keras.backend.standardize_dtype(weighting.dtype)
        return ops.sum(ops.cast(valid, dtype) * weighting), y.values


def parts_of(s: Subject, values: Any) -> Any:
    """What a loss is given: of complex numbers both parts, on a last axis."""
    return np.stack([values.real, values.imag], axis=-1) if s.is_complex else values


def in_two_chunks(s: Subject, layer: Any, x: Sequence, what: Any = "") -> Any:
    """Outputs of a stream of a layer in two steps of about equal length."""
    state, outputs = layer.initial_state(s.batch, s.spec, **s.context()), []
    cut = max(1, s.blocks // 2) * s.block
    for part in (slice(0, cut), slice(cut, None)):
        chunk = Sequence(x.values[:, part], x.mask[:, part])
        if chunk.values.shape[1]:
            y, after = layer.step(chunk, state)
            check_state(after, state, s.batch, f"after a step{what}")
            state = after
            outputs.append(y.with_mask())
    return Sequence.concatenate(outputs) if len(outputs) > 1 else outputs[0]


class Gradients:
    """Gradients of the loss, by name, in NumPy."""

    s: Subject
    loss: Loss
    names: list[str]

    def __init__(self, s: Subject) -> None:
        self.s, self.loss = s, Loss(s, s.layer)
        variables = s.layer.trainable_variables
        self.names = [v.path for v in variables]
        self._layer = transforms.value_and_gradients(self.loss.of_layer, variables, of_values=s.is_float)
        self._stream = transforms.value_and_gradients(self.loss.of_stream, variables, of_values=s.is_float)

    def __call__(self, x: Sequence, weights: Any, *, step: Any = False) -> Any:
        """Loss and gradients; those of the input without padding."""
        run = self._stream if step else self._layer
        with attempt("S14", "the gradient"):
            found = run(x.values, weights, x.mask, self.loss.weighting.astype("float32"))
        loss, _, of_values, of_weights = found
        by_name = {} if of_values is None else {"input": numpy(of_values)[:, : self.s.time]}
        return float(numpy(loss)), by_name | dict(zip(self.names, map(numpy, of_weights), strict=True))


def check_gradients(s: Subject) -> None:
    """Properties S14 and S8: gradients of layer and step, of poisoned inputs, and finite differences."""
    x, weights = Sequence(parts_of(s, s.values), s.mask), s.weights()
    if not s.output_is_float or not (s.is_float or weights):
        return
    gradients = Gradients(s)
    _, clean = gradients(x, weights)
    for name, g in clean.items():
        expect_same("S14", np.isfinite(g), np.ones(g.shape, bool), f"finite gradient of {name}")
    steps = gradients(s.padded(x, s.blocks), weights, step=True)[1] if s.steps else {}
    for name, g in steps.items():
        _expect_close(s, "S14", g, clean[name], f"gradient of {name}", ("step", "layer"))
    for poison, value in poisons(s).items():
        found = {"layer": gradients(poisoned(s, x, value), weights)[1]}
        if s.steps:
            found["step"] = gradients(poisoned(s, s.padded(x, s.blocks), value), weights, step=True)[1]
        for mode, by_name in found.items():
            for name, g in by_name.items():
                names = (f"{mode} with {poison} at invalid steps", "with zero")
                _expect_close(s, "S8", g, clean[name], f"gradient of {name}", names)
    _check_differences(s, gradients, x, weights, clean)


def _expect_close(s, key, found, wanted, what, names):
    # Sums over batch and time: a little wider than the tolerance of one output.
    expect_same(key, found, wanted, what, rtol=4 * s.rtol, atol=4 * s.atol, names=names)


def _check_differences(s, gradients, x, weights, clean):
    """Derivatives along random directions, in float64 where layer mode runs in it and in float32 where it does not."""
    exact = s.exact()
    if exact is not None:
        loss = functools.partial(exact.loss, gradients.loss.weighting)
        steps, tolerance, dtype = (1e-5, 1e-7, 1e-3), max(2e-3, 4 * s.rtol), "float64"
    elif s.layer.compute_dtype != "float32" or s.dtype not in ("float32", "complex64", "int32", "int64"):
        return  # rounding is larger than any difference
    else:
        steps, tolerance, dtype = (1e-2, 1e-3, 5e-2), 2e-2, "float32"

        def loss(values, weights):
            return gradients(Sequence(values, x.mask), weights)[0]

    weights = [w.astype(dtype) for w in weights]
    values = x.values.astype(dtype) if s.is_float else x.values
    norms = {name: float(np.sqrt((wide(gradient) ** 2).sum())) for name, gradient in clean.items()}
    least = 1e-6 * max(1, *norms.values())  # what others cancel in leaves some of their rounding
    for name, gradient in clean.items():
        direction = s.rng.standard_normal(gradient.shape).astype(dtype)
        wanted = float((wide(gradient) * direction).sum())
        limit = tolerance * norms[name] + least
        found = []
        for h in steps:  # a short one passes by kinks, a long one over what is rounded to float32 inside
            ends = []
            for shift in (h * direction, -h * direction):
                moved = [w + shift if n == name else w for n, w in zip(gradients.names, weights, strict=True)]
                ends.append(loss(values + shift if name == "input" else values, moved))
            found.append((ends[0] - ends[1]) / (2 * h))
            if abs(found[-1] - wanted) <= limit:
                break
        else:
            fail(
                "S14",
                f"derivative along a random direction of {name}: {wanted:.8g} (gradient) against "
                f"{', '.join(f'{v:.8g}' for v in found)} (finite differences in {dtype} with steps {steps})",
            )


def check_context(s: Subject) -> None:
    """Property S8, of what is read as context: neither outputs nor gradients know what stands at its invalid steps."""
    given = s.context().get("context", {}) if s.output_is_float else {}
    for source, x in given.items():
        if x.mask is None:
            continue
        loss = Loss(s, s.layer)

        def of_source(values, mask, weighting, source=source, loss=loss):
            y = s.layer(Sequence(s.values, s.mask), context=given | {source: Sequence(values, mask)})
            return loss.weighted(y, weighting)

        variables = s.layer.trainable_variables
        run = transforms.value_and_gradients(of_source, variables)
        names = [f"context {source}", *(v.path for v in variables)]
        wanted: Any = None
        for poison, value in {"zero": 0.0, "NaN": np.nan, "+inf": np.inf, "huge": 1e38}.items():
            with attempt("S8", f"the gradient of the context {source}"):
                values = poisoned(s, Sequence(x.values, x.mask), value).values
                _, y, *found = run(values, s.weights(), x.mask, loss.weighting.astype("float32"))
            found = [numpy(g) for g in [found[0], *found[1]]]
            if wanted is None:
                wanted = found
                for name, g in zip(names, found, strict=True):
                    expect_same("S14", np.isfinite(g), np.ones(g.shape, bool), f"finite gradient of {name}")
            modes = (f"with {poison} at invalid steps of the context", "with zero")
            close = {"where": s.expected().mask, "rtol": s.rtol, "atol": s.atol, "names": modes}
            expect_same("S8", numpy(y), s.expected().values, "values of layer mode", **close)
            for name, g, clean in zip(names, found, wanted, strict=True):
                _expect_close(s, "S8", g, clean, f"gradient of {name}", modes)


class Exact:
    """A copy of the layer in float64, and its layer mode of the masked input."""

    values: Any

    def __init__(self, s: Subject) -> None:
        self._s = s
        with transforms.float64():
            layer = s.copy("float64")
            loss = Loss(s, layer)
            self._run = transforms.stateless(loss.of_layer, layer.trainable_variables)
            values = parts_of(s, s.values)
            values = values.astype("float64") if s.is_float else values
            self.values = self._call(values, s.weights(), loss.weighting)[1]

    def loss(self, weighting: Any, values: Any, weights: Any) -> Any:
        return float(self._call(values, weights, weighting)[0])

    def _call(self, values, weights, weighting):
        with transforms.float64(), transforms.no_gradients():
            found = self._run([w.astype("float64") for w in weights], values, self._s.mask, weighting)
            return [numpy(a) for a in found]


def find_exact(s: Subject) -> Any:
    """`Exact`, or `None` where layer mode does not run in float64: Keras casts some functions to float32 on its own."""
    try:
        return Exact(s)
    except Exception:  # whatever the backend says to a mixture of dtypes
        return None


def check_precision(s: Subject) -> None:
    """Property S13 (with S6): errors against float64, also under dtype policies of half the size."""
    if not s.output_is_float:
        return
    own = s.layer.compute_dtype
    exact = s.exact()
    reference = ("float64", exact.values) if exact is not None else (own, s.expected().values)
    if exact is not None:
        _expect_rounding(s, s.expected(), own, reference, "layer mode")
    for policy, mode in _POLICIES.items():
        mode = mode if s.steps else "layer"
        layer, what = s.copy(policy), f"{mode} mode under the policy {policy}"

        def run(values, mask, layer=layer, mode=mode, what=what):
            if mode == "layer":
                return s.call(Sequence(values, mask), layer)
            first = s.timing.output_latency
            y = in_two_chunks(s, layer, s.padded(Sequence(values, mask), s.blocks), f" in {what}")
            return y.slice_time(first, first + s.expected().values.shape[1])

        with attempt("S13", what):
            y = s.compile(run, policy)(ops.convert_to_tensor(s.values), ops.convert_to_tensor(s.mask))
        dtype, declared = keras.backend.standardize_dtype(y.values.dtype), layer.output_spec(s.spec).dtype
        if dtype != declared:
            fail(
                "S13",
                f"{what}: outputs of dtype {dtype} (received) against {declared} (declared); `self.weight(variable)` "
                "is a weight in the compute dtype",
            )
        y = to_numpy(y)
        expect_same("S13", y.mask, s.expected().mask, f"mask of {what}", names=(policy, own))
        _expect_rounding(s, y, layer.compute_dtype, reference, what)


def _expect_rounding(s, y, dtype, reference, what):
    """Fail where the error is beyond what rounding in a dtype makes of it."""
    name, exact = reference
    limit = _ROUNDINGS * _EPSILONS.get(dtype, _EPSILONS["float32"])
    valid = y.mask & s.expected().mask
    expect_same("S13", y.values, exact, f"values of {what}", rtol=limit, atol=limit, where=valid, names=(dtype, name))
