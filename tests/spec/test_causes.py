"""What fails when a layer is made, built or called is said with what was given, at the place of the layer itself."""

import keras
import pytest

import kseq
from kseq.spec import trial

HEAD = "kseq: 1\ninput: {shape: [null, 4, 5]}\nlayers:\n"


def problems(text):
    with pytest.raises(kseq.SpecError) as error:
        kseq.load_spec(text)
    return error.value.problems


@pytest.mark.parametrize(
    ("layer", "cause"),
    [
        ("keras.SpatialDropout1D: {rate: 0.5}", "Input 0 of layer 'spatial_dropout1d' is incompatible with the layer"),
        ("keras.EinsumDense: {equation: 'abc,cd->abd', output_shape: [null, 3], bias_axes: z}", "given equation="),
        ("keras.Normalization: {axis: 7}", "All `axis` values must be in the range"),
        ("GRU: {units: 2}", "gru (GRU) takes values of rank 3; received shape (None, None, 4, 5)"),
        (
            "keras.BatchNormalization: {axis: 9}",
            "fails with IndexError: tuple index out of range; given axis=9; the input is",
        ),
        ("keras.ReLU: {max_value: a}", "given max_value='a'"),
        ("keras.Dense: {units: 2, lora_rank: -3}", "Negative dimensions are not allowed"),
    ],
)
def test_the_cause_of_an_error_is_kept(layer, cause):
    (problem,) = problems(f"{HEAD}  - {layer}\n")
    assert problem.line == 4 and cause in problem.message
    assert problem.path.startswith("layers[0].") or "(None, None, 4, 5)" in problem.message
    for around in ("Exception encountered", "Could not automatically", "Arguments received", "keras_tensor", "\x1b"):
        assert around not in problem.message


CALLED = {
    "keras.Softmax: {axis: 9}": "the input is float32 of shape (None, None, 4, 5)",
    "Rescaling: {scale: [1, 2, 3]}": "fails with|the input is float32 of shape (None, None, 4, 5)",
    "Dense: {units: 3, activation: glu}": "given units=3, activation='glu'|it says that it gives channels",
    "keras.Dense: {units: 4, activation: glu}": "it says that it gives channels (4, 4), and gives (4, 2)",
    "AlphaDropout: {rate: 0.5, noise_shape: [3, 7, 7, 7]}": "noise_shape|(None, None, 4, 5)",  # only in training
}


@pytest.mark.parametrize("layer", CALLED)
def test_what_fails_only_when_it_is_called(layer):
    (problem,) = problems(f"{HEAD}  - {layer}\n")
    assert (problem.line, problem.path) == (4, f"layers[0].{layer.partition(': ')[0]}")
    assert any(part in problem.message for part in CALLED[layer].split("|"))


def test_layers_within_layers_have_their_own_places():
    text = "kseq: 1\nblocks:\n  b:\n    - Residual:\n        layers:\n          - Dense: {units: 3, activation: glu}\n"
    text += "          - LayerNormalization: {axis: 9}\ninput: {shape: [null, 3]}\nlayers: [{b: {}}, {b: {}}]\n"
    (problem,) = problems(text.replace("units: 3, activation: glu", "units: 3"))
    assert (problem.line, problem.path) == (7, "layers[0].b.layers[0].Residual.layers[1].LayerNormalization.axis")
    (problem,) = problems(text.replace("          - LayerNormalization: {axis: 9}\n", ""))
    assert (problem.line, problem.path) == (6, "layers[0].b.layers[0].Residual.layers[0].Dense")


@keras.saving.register_keras_serializable("tests")
class Picky(keras.layers.Layer):
    """Takes so many steps at least."""

    tried = ()

    def __init__(self, least=1, **kwargs):
        super().__init__(**kwargs)
        self.least = least

    def call(self, x):
        Picky.tried = (*Picky.tried, tuple(x.shape))
        if x.shape[1] is not None and x.shape[1] < self.least:
            raise KeyError(self.least)
        return x

    def compute_output_spec(self, x):
        return x


def try_picky(least, *, length=None, channels=3, held=0):
    layer, x = Picky(least), keras.KerasTensor((None, length, channels), "float32")
    Picky.tried = ()
    trial.try_call(layer, x, layer(x), held)
    return {shape[1] for shape in Picky.tried}


def test_a_layer_may_need_some_steps():
    assert 64 in try_picky(50)
    with pytest.raises(KeyError, match="5000"):
        try_picky(5000)


def test_trials_are_bounded():
    assert not try_picky(50, channels=10**8)
    assert not try_picky(50, held=10**8)
    assert not try_picky(50, length=10**7)
    assert try_picky(5000, length=5000) == {5000}


def test_a_trial_leaves_no_trace():
    model = kseq.load_spec(
        "kseq: 1\ninput: {shape: [null, 3]}\nlayers: [{BatchNormalization: {}}, {Dropout: {rate: 0.5}}]\n"
    )
    assert all(float(keras.ops.sum(mean)) == 0 for mean in model.non_trainable_weights[:1])
    assert not model.losses and keras.config.is_traceback_filtering_enabled()
