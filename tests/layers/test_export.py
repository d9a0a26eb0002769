"""`model.export` with a free time axis: what is loaded gives the model's numbers for every number of steps."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq

LAYERS = {
    "windows": lambda: [
        kseq.Conv1D(4, 3, strides=2, padding="same"),
        kseq.AveragePooling1D(3, strides=2, padding="same"),
        kseq.Conv1D(4, 3, groups=2, padding="reverse_causal_valid"),
        kseq.MaxPooling1D(2, strides=1, padding="semicausal_full"),
        kseq.AveragePooling1D(2, padding="causal_valid", masked_average=True),
    ],
    "spectra": lambda: [
        kseq.STFT(6, 2, mode="magnitude", use_dft_matrix=True),
        kseq.OverlapAdd(4, 2, padding="semicausal_full"),
        kseq.Lookahead(2, preserve_length_in_layer=True),
    ],
    "lengths": lambda: [
        kseq.Lookahead(3),
        kseq.Delay(2),
        kseq.Residual([kseq.LocalSelfAttention(1, 2, max_past_horizon=2, max_future_horizon=1)]),
        kseq.LayerNormalization(),
    ],
}


def exported(model, path):
    """The exported model as a function of an array."""
    if keras.backend.backend() == "torch":
        pytest.importorskip("onnx")
        runtime = pytest.importorskip("onnxruntime")
        model.export(f"{path}.onnx", format="onnx", verbose=False)
        session = runtime.InferenceSession(f"{path}.onnx", providers=["CPUExecutionProvider"])
        return lambda x: session.run(None, {session.get_inputs()[0].name: x})
    tf = pytest.importorskip("tensorflow")
    model.export(path, format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(path)
    return lambda x: [np.asarray(y) for y in loaded.serve(x)]


@pytest.mark.filterwarnings("ignore")  # exporters warn about themselves
@pytest.mark.parametrize("layers", LAYERS)
def test_a_model_exports_with_a_free_time_axis(layers, tmp_path):
    x = keras.Input((None, 4))
    valid = ops.any(ops.not_equal(x, 0), axis=-1)
    y, mask = kseq.Serial(LAYERS[layers]())(kseq.Sequence(x, valid))
    model = keras.Model(x, [y, ops.cast(mask, "float32")])
    steps = np.random.default_rng(0).normal(size=(3, 9, 4)).astype("float32")
    steps[0, 5:] = steps[1, 2:4] = steps[2, :2] = 0  # padding, a hole, leading invalid steps
    model(steps)
    run = exported(model, str(tmp_path / "model"))
    for time in (1, 4, 9):
        for found, wanted in zip(run(steps[:, :time]), model(steps[:, :time]), strict=True):
            np.testing.assert_allclose(found, ops.convert_to_numpy(wanted), rtol=1e-5, atol=1e-5)


def test_a_layer_made_of_its_step_says_that_it_needs_to_know_the_time():
    class Stepped(kseq.SequenceLayer):
        def call_step(self, x, state, *, training=False):
            return x, state

    with pytest.raises(ValueError, match="needs a known number of time steps"):
        Stepped().call_layer(kseq.Sequence(keras.KerasTensor((2, None, 3))))
