"""Replays the conformance corpus: reference inputs, weights, outputs, masks, step outputs, properties and gradients.

    KERAS_BACKEND=jax python tests/conformance/replay.py [--corpus DIR] [--family conv1d] [--id conv1d_0005] [--json]

A case passes when layer mode gives the reference's values and mask, the properties agree, stepping with every stored
chunking gives what layer mode gives (the warm-up dropped, and invalid), and the gradients agree. Only valid positions
are compared; masks are compared exactly. A case that the adapter cannot express is skipped, with the adapter's reason.
"""

import argparse
import collections
import functools
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

CORPUS = Path(__file__).parent / "corpus"


class Corpus:
    """Cases, and the arrays that they name."""

    def __init__(self, directory=CORPUS):
        self.directory = Path(directory)
        index = json.loads((self.directory / "index.json").read_text())
        self.cases = index["cases"]
        self._files = index["meta"]["array_files"]

    @property
    def families(self) -> list[str]:
        return list(dict.fromkeys(case["family"] for case in self.cases))

    def array(self, case, key):
        return self._family(case["family"])[key]

    @functools.cache  # noqa: B019 - a corpus lives as long as the process
    def _family(self, family):
        with np.load(self.directory / self._files[family]) as arrays:
            return dict(arrays)


class Outcome(NamedTuple):
    """What became of a case: how many checks were made, which failed, or why it was skipped."""

    checks: int = 0
    failures: tuple[str, ...] = ()
    skipped: str | None = None

    @property
    def word(self) -> str:
        return "skipped" if self.skipped else "FAIL" if self.failures else "ok"


def replay(case, corpus, build) -> Outcome:
    """Run every check of one case; an error of the implementation is a failure of the check."""
    found: list[str | None] = []

    def check(name, errors):
        try:
            found.extend(None if error is None else f"{name}: {error}" for error in errors())
        except Exception as error:
            found.append(f"{name}: {type(error).__name__}: {str(error)[:300]}")

    data = _Data(case, corpus)
    try:
        implementation = build(case["node"], data.weights, case)
    except NotImplementedError as reason:
        return Outcome(skipped=str(reason))
    except Exception as error:
        return Outcome(1, (f"build: {type(error).__name__}: {str(error)[:300]}",))
    check("layer", lambda: [_layer_error(implementation, data)])
    check("properties", lambda: _property_errors(implementation, case))
    for steps in case["steps"]:
        check(f"step {steps['chunks']}", lambda steps=steps: _step_errors(implementation, data, steps))
    if case["grads"]:
        check("gradients", lambda: _gradient_errors(implementation, data))
    return Outcome(len(found), tuple(error for error in found if error is not None))


class _Data:
    """A case's arrays."""

    def __init__(self, case, corpus):
        self.case, self.array = case, functools.partial(corpus.array, case)
        self.values, self.mask = self.array(case["input"]["values"]), self.array(case["input"]["mask"])
        self.expected = self.array(case["output"]["values"]), self.array(case["output"]["mask"])
        self.weights = {weight["path"]: self.array(weight["key"]) for weight in case["weights"]}
        self.constants = {name: self._constant(stored) for name, stored in case["constants"].items()}
        self.tolerance = case["tolerance"]

    def _constant(self, stored):
        values = self.array(stored["values"])
        return (values, self.array(stored["mask"])) if stored["kind"] == "sequence" else values

    def constants_at(self, start, stop):
        """The constants of a chunk: those that stream are cut like the input, invalid beyond their end."""
        if not self.case["stream_constants"]:
            return self.constants

        def cut(constant):
            if not isinstance(constant, tuple):
                return constant
            return tuple(_pad_time(part, max(stop, part.shape[1]))[:, start:stop] for part in constant)

        return {name: cut(constant) for name, constant in self.constants.items()}


def _layer_error(implementation, data):
    return _difference(implementation.layer(data.values, data.mask, data.constants), data.expected, **data.tolerance)


def _property_errors(implementation, case):
    found = implementation.properties()
    for name, expected in case["properties"].items():
        # A property that the reference itself cannot state, or that the adapter withholds, is no check.
        if name in found and not (isinstance(expected, dict) and "error" in expected):
            yield None if found[name] == expected else f"{name} is {found[name]}, not {expected}"


def _step_errors(implementation, data, steps):
    case, total = data.case, sum(steps["chunks"])
    values, mask = _pad_time(data.values, total), _pad_time(data.mask, total)
    state = implementation.initial_state(
        len(values), tuple(case["input"]["channel_shape"]), case["input"]["dtype"], data.constants
    )
    outputs, start = [], 0
    for size in steps["chunks"]:
        chunk = slice(start, start + size)
        constants = data.constants_at(start, start + size)
        y, y_mask, state = implementation.step(values[:, chunk], mask[:, chunk], state, constants)
        outputs.append((y, y_mask))
        start += size
    y, y_mask = (np.concatenate(parts, axis=1) for parts in zip(*outputs, strict=True))
    latency = case["properties"]["output_latency"]
    # Rounding may differ between the modes where the tolerance of layer mode is nothing.
    tolerance = {name: max(value, 2e-5) for name, value in data.tolerance.items()}
    yield _difference((y[:, latency:], y_mask[:, latency:]), data.expected, **tolerance)
    if not steps["warmup_mask_true"]:
        yield "valid outputs during warm-up" if y_mask[:, :latency].any() else None


def _gradient_errors(implementation, data):
    wanted = data.case["grads"]
    cotangent = data.array(wanted["cotangent"])
    of_values, of_weights = implementation.grads(data.values, data.mask, data.constants, cotangent)
    if wanted["input"] and of_values is not None:
        tolerance = {name: max(value, 1e-4) for name, value in data.tolerance.items()}
        error = _difference((of_values, data.mask), (data.array(wanted["input"]), data.mask), **tolerance)
        yield error and f"input: {error}"
    for weight in wanted["params"]:
        if weight["path"] in of_weights:
            found, expected = of_weights[weight["path"]], data.array(weight["key"])
            same = np.allclose(found, expected, rtol=1e-3, atol=2e-4)
            yield None if same else f"{weight['path']}: max abs diff {np.abs(found - expected).max():.3g}"


def _difference(found, expected, rtol, atol) -> str | None:
    """How two pairs (values, mask) differ at valid steps, steps beyond the end of either being invalid."""
    length = max(found[0].shape[1], expected[0].shape[1])
    (y, mask), (y_expected, mask_expected) = (
        [_pad_time(np.asarray(part), length) for part in pair] for pair in (found, expected)
    )
    if not np.array_equal(mask, mask_expected):
        return f"masks differ, first at {np.argwhere(mask != mask_expected)[0].tolist()}"
    if y.shape != y_expected.shape:
        return f"shape {y.shape}, not {y_expected.shape}"
    wide = np.complex128 if np.iscomplexobj(y_expected) else np.float64
    y, y_expected = y[mask].astype(wide), y_expected[mask].astype(wide)
    difference = np.abs(y - y_expected)
    limit = 4 * (atol + rtol * np.abs(y_expected))
    wrong = ~(difference <= limit)  # so that NaN is wrong
    if not wrong.any():
        return None
    first = tuple(np.argwhere(wrong)[0])
    step = np.argwhere(mask)[first[0]].tolist()
    wanted = f"{y[first]:.6g}, not {y_expected[first]:.6g}"
    return f"at {step}, {wanted}; {wrong.sum()} values differ, by up to {difference.max():.3g}"


def _pad_time(x, length):
    return np.pad(x, [(0, 0), (0, max(length - x.shape[1], 0))] + [(0, 0)] * (x.ndim - 2))


def main(arguments=None) -> int:
    """Replay the cases asked for and report them; the exit status is 1 when a case fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default=CORPUS, help="a folder with index.json")
    parser.add_argument("--family")
    parser.add_argument("--id")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    import adapter

    corpus = Corpus(options.corpus)
    outcomes = {
        case["id"]: (case, replay(case, corpus, adapter.build))
        for case in corpus.cases
        if options.family in (None, case["family"]) and options.id in (None, case["id"])
    }
    report = summarize(outcomes.values())
    if options.json:
        print(json.dumps(report))
    else:
        _print(report)
    return int(bool(report["failures"]))


def summarize(outcomes) -> dict:
    """Counts per family, failures by case, and what was skipped, of (case, Outcome) pairs."""
    families = collections.defaultdict(lambda: {"ok": 0, "FAIL": 0, "skipped": 0})
    failures, reasons, checks = {}, collections.Counter(), 0
    for case, outcome in outcomes:
        families[case["family"]][outcome.word] += 1
        checks += outcome.checks
        if outcome.failures:
            failures[case["id"]] = list(outcome.failures)
        if outcome.skipped:
            reasons[outcome.skipped] += 1
    return {
        "families": dict(families),
        "checks": checks,
        "failures": failures,
        "skipped_families": [name for name, n in families.items() if not n["ok"] and not n["FAIL"]],
        "skipped": dict(reasons.most_common()),
    }


def _print(report):
    for family, counts in report["families"].items():
        print(f"{family:28} " + "  ".join(f"{n:4d} {word}" for word, n in counts.items()))
    totals = [sum(counts[word] for counts in report["families"].values()) for word in ("ok", "FAIL", "skipped")]
    print("{:28} {:4d} ok  {:4d} FAIL  {:4d} skipped; {} checks".format("total", *totals, report["checks"]))
    for case, failures in report["failures"].items():
        for failure in failures:
            print(f"FAIL {case} {failure}")
    print("skipped families:", ", ".join(report["skipped_families"]) or "none")
    for reason, n in report["skipped"].items():
        print(f"skipped {n:3d}  {reason}")


if __name__ == "__main__":
    sys.exit(main())
