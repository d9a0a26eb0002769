"""What third parties register: layers, factories, plugins, and names of the past."""

import dataclasses
import sys

import keras
import numpy as np
import pytest

import kseq
from kseq import registry


def spec(*layers):
    return {"kseq": 1, "input": {"shape": [None, 3]}, "layers": list(layers)}


@kseq.register("acme.Gate", former_names=["acme.OldGate"], former_arguments={"size": "units", "act": "activation"})
class Gate(kseq.SequenceLayer):
    """Multiplies by a sigmoid.  [B, T, C] -> [B, T, C].

    Args:
        units: how many
            channels.
    """

    def __init__(self, units: int, activation="sigmoid", inner: kseq.SequenceLayer | None = None, **kwargs):
        super().__init__(**kwargs)
        self.units, self.activation, self.inner = units, keras.activations.get(activation), inner

    def build(self, input_shape):
        if self.inner is not None:
            self.inner.build(input_shape)

    def call_step(self, x, state, *, training=False):
        return x.apply(lambda values: values * self.activation(values)), state


@dataclasses.dataclass
class Shift:
    steps: int = 0


@dataclasses.dataclass
class SmoothConfig:
    """A moving mean.

    Args:
        size: of the window.
    """

    size: int
    mode: str = "causal"
    scale: float = 1.0
    names: list[str] = dataclasses.field(default_factory=list)
    shift: Shift = dataclasses.field(default_factory=Shift)


@kseq.register_factory(SmoothConfig, "acme.Smooth")
def smooth(config):
    assert isinstance(config.shift, Shift)
    return kseq.AveragePooling1D(config.size, strides=1, padding=config.mode, name="-".join(config.names) or None)


def test_a_registered_layer():
    model = kseq.load_spec(spec({"acme.Gate": {"units": 3, "activation": "tanh", "inner": {"GRU": {"units": 2}}}}))
    gate = model.layers[1]
    assert type(gate) is Gate and gate.name == "gate" and type(gate.inner) is kseq.GRU
    text = kseq.dump_spec(model)
    assert "acme.Gate:" in text
    assert kseq.load_spec(text).get_config() == model.get_config()
    for wrong, hint in [({"Gate": {"units": 3}}, "did you mean `acme.Gate`"), ({"acme.Gate": {"unit": 3}}, "`units`")]:
        with pytest.raises(kseq.SpecError, match=hint):
            kseq.load_spec(spec(wrong))


def test_former_names_load_from_specs_and_files(tmp_path, monkeypatch):
    model = kseq.load_spec(spec({"acme.OldGate": {"size": 3, "act": "tanh"}}))
    assert model.layers[1].units == 3
    assert "acme.Gate: {units: 3, activation: tanh}" in kseq.dump_spec(model)
    with pytest.raises(kseq.SpecError, match="`size` is a former name of `units`, which is given too"):
        kseq.load_spec(spec({"acme.Gate": {"units": 3, "size": 3}}))
    # A file from when the layer and its argument had other names.
    old = {"module": "elsewhere", "class_name": "OldGate", "registered_name": "acme>OldGate", "config": {"size": 4}}
    assert keras.saving.deserialize_keras_object(old).units == 4
    model.save(tmp_path / "m.keras")
    assert type(keras.models.load_model(tmp_path / "m.keras").layers[1]) is Gate


def test_a_factory():
    model = kseq.load_spec(spec({"acme.Smooth": {"size": 3, "names": ["a", "b"], "shift": {"steps": 1}}}))
    pool = model.layers[1]
    assert (type(pool), pool.pool_size, pool.name) == (kseq.AveragePooling1D, 3, "a-b")
    assert "AveragePooling1D: {name: a-b, pool_size: 3, strides: 1}" in kseq.dump_spec(model)
    with pytest.raises(kseq.SpecError) as error:
        kseq.load_spec(spec({"acme.Smooth": {"size": "3", "scale": True, "names": [1], "nam": 1}}))
    assert [problem.message for problem in error.value.problems] == [
        "unknown argument `nam`",
        "must be an integer; received '3'",
        "must be a number; received true",
        "must be text; received 1",
    ] or len(error.value.problems) == 4
    with pytest.raises(kseq.SpecError, match=r"Smooth.shift: unknown argument `step`"):
        kseq.load_spec(spec({"acme.Smooth": {"size": 3, "shift": {"step": 1}}}))
    with pytest.raises(kseq.SpecError, match="missing argument `size`"):
        kseq.load_spec(spec({"acme.Smooth": {}}))


def test_a_factory_must_give_a_layer(monkeypatch):
    monkeypatch.setattr(registry, "_FACTORIES", dict(registry._FACTORIES))

    @dataclasses.dataclass
    class NothingConfig:
        pass

    kseq.register_factory(NothingConfig)(lambda config: 3)
    (name,) = set(kseq.registry.registered_factories()) - {"acme.Smooth"}
    assert name.endswith(".Nothing")
    with pytest.raises(kseq.SpecError, match="must give a Keras layer; received 3"):
        kseq.load_spec(spec({name: {}}))


def test_wrong_registrations():
    with pytest.raises(TypeError, match="a configuration is a dataclass"):
        kseq.register_factory(Gate)
    for name in ("Gate", "keras.Gate", "kseq.Gate", "acme.", "acme.a b", "..x"):
        with pytest.raises(ValueError, match="a registered name must be"):
            kseq.register(name)
        with pytest.raises(ValueError, match="a registered name must be"):
            kseq.register_factory(SmoothConfig, name)

    class Other(kseq.SequenceLayer):
        pass

    with pytest.raises(ValueError, match=r"'acme.Gate' is taken"):
        kseq.register("acme.Gate")(Other)
    with pytest.raises(ValueError, match=r"'acme.Gate' is taken"):
        kseq.register_factory(SmoothConfig, "acme.Gate")


PLUGIN = """
import kseq
@kseq.register("{name}")
class Twice(kseq.SequenceLayer):
    def call_step(self, x, state, *, training=False):
        return x.apply(lambda values: 2 * values), state
"""


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """An installed distribution of three plugins: one that works, one that fails, one that registers another name."""
    for module, name in ("good_plugin", "plug.Twice"), ("odd_plugin", "plug.Thrice"):
        (tmp_path / f"{module}.py").write_text(PLUGIN.format(name=name))
    (tmp_path / "bad_plugin.py").write_text("raise SystemExit('no luck')")
    info = tmp_path / "plug-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[kseq.layers]\nplug.Twice = good_plugin:Twice\nplug.Bad = bad_plugin\nplug.Odd = odd_plugin\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_LAYERS", dict(registry._LAYERS))
    yield
    for module in ("good_plugin", "bad_plugin", "odd_plugin"):
        sys.modules.pop(module, None)


def test_a_plugin_is_loaded_for_its_exact_name_only(plugins):
    for name in ("plug.Twic", "Twice", "plug.twice", "good_plugin.Twice"):
        with pytest.raises(kseq.SpecError, match=r"unknown layer type.*(\n.*)*(plug.Twice|lists all)"):
            kseq.load_spec(spec({name: {}}))
    kseq.load_spec(spec({"Dense": {"units": 1}}))
    assert "good_plugin" not in sys.modules and "bad_plugin" not in sys.modules
    model = kseq.load_spec(spec({"plug.Twice": {}}))
    np.testing.assert_allclose(model(np.ones((1, 2, 3), "float32")), 2.0)
    assert "bad_plugin" not in sys.modules


def test_lists_of_layers_load_no_plugin(plugins):
    assert "plug.Twice" in kseq.spec.catalog.type_names()
    assert "plug.Twice" not in kseq.spec.json_schema()["$defs"]["layer"]["properties"]
    assert "good_plugin" not in sys.modules and "bad_plugin" not in sys.modules


def test_a_plugin_that_fails_is_an_error(plugins):
    with pytest.raises(
        kseq.SpecError, match=r"layers\[0\].*the plugin of 'plug.Bad' \(bad_plugin\) cannot be imported.*no luck"
    ):
        kseq.load_spec(spec({"plug.Bad": {}}))
    with pytest.raises(kseq.SpecError, match=r"does not register it; use kseq\.register"):
        kseq.load_spec(spec({"plug.Odd": {}}))
