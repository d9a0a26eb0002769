"""Every stock layer that has an adapter in every format that this backend writes, or the reason why not."""

import importlib.util
import pathlib
import sys

import keras
import pytest
from exports import HERE, check_step, needs
from sampling import todays
from stock import model_of
from stock_layers import EVERY

import kseq
from kseq import registry

sys.path.append(str(pathlib.Path(kseq.__file__).parents[1] / "docs"))

import make_export

if importlib.util.find_spec("tensorflow") is None:
    pytest.skip("some of Keras's layers need tensorflow", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings(
    "ignore:Layer '.*' .*was passed an input with a mask", "ignore:You might experience"
)

CASES = todays(
    [
        pytest.param(*case, format, masks, id=f"{name}-{format}{'-masks' * masks}")
        for name, *case in EVERY
        for format in HERE
        for masks in (False, True)
    ],
    of="exported adapters",
    jax=0.01,
    tensorflow=0.02,
    torch=0.04,
)


@pytest.mark.usefixtures("golden_without_a_compiler")
@pytest.mark.parametrize(("shape", "build", "dtype", "format", "masks"), CASES)
def test_step(shape, build, dtype, format, masks, tmp_path, request):
    needs(format)
    model, path = model_of(build, shape, dtype), tmp_path / "exported"
    name = request.node.callspec.id.removesuffix("-masks").removesuffix(f"-{format}")
    options = {"format": format, "batch_size": 2, "masks": masks}
    if reason := make_export.STOCK.get(format, {}).get(name):
        with pytest.raises(ValueError, match=make_export.MESSAGES[reason]):
            kseq.export(model, path, **options)
        return
    kseq.export(model, path, **options)
    check_step(model, path)


def test_every_adapter_has_a_case():
    found = set()
    for _, shape, build, dtype in EVERY:
        model = model_of(build, shape, dtype)
        found |= {type(layer) for layer in model.layers}
    own = {cls for cls in registry._ADAPTERS if getattr(keras.layers, cls.__name__, None) is cls}
    assert {cls.__name__ for cls in own - found} == set()
