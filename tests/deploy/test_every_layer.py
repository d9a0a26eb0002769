"""Every example of every registered layer in every format that this backend writes, or the reason why not."""

import pathlib
import sys

import numpy as np
import pytest
from exports import HERE, check_step, check_whole, needs, weighted
from sampling import todays

import kseq
from kseq.testing.given import draw_context

sys.path.append(str(pathlib.Path(kseq.__file__).parents[1] / "docs"))

import make_export

# Of layers that divide by what may be nearly nothing.
TOLERANCES = {"GatedDeltaNet": 1e-2}
LAYERS = {name: cls for name, cls in kseq.registered_layers().items() if "." not in name}  # those of others have a dot
SHARES = {"jax": 0.01, "tensorflow": 0.02, "torch": 0.04}


pytestmark = pytest.mark.usefixtures("golden_without_a_compiler")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "exported"


def built(cls, example):
    """The layer of an example, and what else it is called with."""
    layer, rng = cls(**example.config), np.random.default_rng(1)
    context = draw_context(rng, layer, 2, example.context or {})
    given = {"context": context} if context else {}
    layer(kseq.Sequence(np.zeros((2, *example.input_shape[1:]), example.dtype)), **given)
    return weighted(layer, rng), given


def refused(layer, path, message, **options):
    with pytest.raises(ValueError, match=message):
        kseq.export(layer, path, **options)
    assert not list(path.parent.iterdir())  # nothing half-written


STEPS = todays(
    [
        pytest.param(cls, example, format, masks, id=f"{name}-{i}-{format}{'-masks' * masks}")
        for name, cls in LAYERS.items()
        for i, example in enumerate(cls.examples())
        for format in HERE
        for masks in (False, True)
    ],
    of="exported steps",
    **SHARES,
)


@pytest.mark.parametrize(("cls", "example", "format", "masks"), STEPS)
def test_step(cls, example, format, masks, path):
    needs(format)
    layer, context = built(cls, example)
    options = {"format": format, "batch_size": 2, "masks": masks, "dtype": example.dtype, **context}
    reason = make_export.why_no_step(layer, example, format)
    if not layer.supports_step:
        with pytest.raises(kseq.NotStreamable):
            kseq.export(layer, path, **options)
    elif reason:
        refused(layer, path, make_export.MESSAGES[reason], **options)
    else:
        kseq.export(layer, path, **options)
        check_step(layer, path, TOLERANCES.get(cls.__name__, 1e-4))


@pytest.mark.skipif("stablehlo" not in HERE, reason="this backend does not write it")
@pytest.mark.parametrize("name", ["RFFT", "Logging"])
def test_complex_numbers_and_calls_of_the_host_in_stablehlo(name, path):
    test_step(LAYERS[name], LAYERS[name].examples()[0], "stablehlo", False, path)


WHOLE = todays(
    [
        pytest.param(cls, cls.examples()[0], format, length, id=f"{name}-{format}-{length}")
        for name, cls in LAYERS.items()
        if cls.examples()
        for format in HERE
        if format in make_export.RUNTIMES
        for length in ("any", "known")
    ],
    of="exported wholes",
    **SHARES,
)


@pytest.mark.parametrize(("cls", "example", "format", "length"), WHOLE)
def test_whole_sequences(cls, example, format, length, path):
    needs(format)
    layer, context = built(cls, example)
    time = example.input_shape[1]
    options = {"format": format, "mode": "layer", "batch_size": 2, "dtype": example.dtype, **context}
    options["length"] = None if length == "any" else time
    reason = make_export.why_no_whole(layer, example, format, length == "known")
    if reason:
        refused(layer, path, make_export.MESSAGES.get(reason, reason), **options)
        return
    kseq.export(layer, path, **options)
    lengths = (time, time // 2) if length == "any" else (time,)
    check_whole(layer, path, lengths, TOLERANCES.get(cls.__name__, 1e-4), **context)


def test_the_list_is_of_layers():
    named = {
        name
        for table in (make_export.OF_ANY_LENGTH, make_export.OF_NO_LENGTH)
        for row in table.values()
        for name in row
    }
    assert named <= LAYERS.keys()


@pytest.mark.slow
def test_the_page_is_of_today():
    page = make_export.PAGE.read_text()
    assert make_export.in_page(page) == page, "python docs/make_export.py"
