"""RNN over cells of Keras's and of others, and convolutional LSTMs, beside Keras's own layers."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq

TODAYS = {"jax": 0.2, "tensorflow": 0.2}

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 6, 4)).astype("float32")
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 0, 1, 0, 1, 1], [1, 1, 1, 1, 0, 0]], bool)
CELLS = {
    "LSTM": lambda: keras.layers.LSTMCell(3),
    "GRU that resets before": lambda: keras.layers.GRUCell(3, reset_after=False),
    "several": lambda: [keras.layers.LSTMCell(3), keras.layers.GRUCell(2), keras.layers.SimpleRNNCell(3)],
    "stacked": lambda: keras.layers.StackedRNNCells([keras.layers.GRUCell(2), keras.layers.GRUCell(3)]),
    "of our own": lambda: Leaky(3),
}


@keras.saving.register_keras_serializable("kseq-tests")
class Leaky(keras.layers.Layer):
    """A cell of a name that Keras does not know, whose output is another than its state, and which has no start."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = self.state_size = units
        self.output_size = units + 1

    def build(self, shape):
        self.kernel = self.add_weight(name="kernel", shape=(shape[-1], self.units))
        self.output_kernel = self.add_weight(name="output_kernel", shape=(self.units, self.units + 1))

    def call(self, inputs, states):
        state = 0.5 * states[0] + ops.matmul(inputs, self.kernel)
        return ops.matmul(state, self.output_kernel), [state]

    def get_config(self):
        return super().get_config() | {"units": self.units}


def numpy(x):
    return ops.convert_to_numpy(x)


def twins(ours, theirs, shape):
    """Two built layers with the same weights, none of them zero."""
    ours.build(shape)
    theirs.build(shape)
    assert [w.shape for w in ours.weights] == [w.shape for w in theirs.weights]
    theirs.set_weights([w + RNG.normal(size=w.shape) * 0.3 for w in theirs.get_weights()])
    ours.set_weights(theirs.get_weights())
    return ours, theirs


def stepped(layer, x, mask=None):
    stream = kseq.Stream(layer, len(x))
    chunks = kseq.Sequence(x, mask)
    return numpy(kseq.Sequence.concatenate([stream.push(chunks.slice_time(t, t + 2)) for t in (0, 2, 4)]).values)


def check_masked(ours, theirs, x):
    """Valid steps are as if others were absent, and these give what was given before. Keras fails with some masks."""
    y = numpy(ours(x, mask=ops.convert_to_tensor(MASK)))
    valid = numpy(theirs(np.stack([np.resize(row[there], row.shape) for row, there in zip(x, MASK, strict=True)])))
    for row, wanted, there in zip(y, valid, MASK, strict=True):
        np.testing.assert_allclose(row, wanted[np.cumsum(there) - 1], atol=1e-6)


@pytest.mark.parametrize("name", CELLS)
def test_cells_run_as_in_keras(name):
    ours, theirs = twins(kseq.RNN(CELLS[name]()), keras.layers.RNN(CELLS[name](), return_sequences=True), X.shape)
    wanted = numpy(theirs(X))
    np.testing.assert_allclose(numpy(ours(X)), wanted, atol=1e-6)
    np.testing.assert_allclose(stepped(ours, X), wanted, atol=1e-6)
    check_masked(ours, theirs, X)


def test_one_cell_in_a_list_is_the_cell():  # of which Keras's RNN makes one that takes the list of its states away
    ours, alone = twins(kseq.RNN([keras.layers.LSTMCell(3)]), kseq.RNN(keras.layers.LSTMCell(3)), X.shape)
    np.testing.assert_allclose(numpy(ours(X)), numpy(alone(X)), atol=1e-6)
    np.testing.assert_allclose(stepped(ours, X), numpy(alone(X)), atol=1e-6)


@pytest.mark.parametrize("name", ["several", "of our own"])
def test_a_layer_of_cells_trains_streams_and_is_saved(name, tmp_path):
    model = keras.Sequential([keras.Input((None, 4)), keras.layers.Masking(), kseq.RNN(CELLS[name]())])
    model.compile("adam", "mse")
    before = model.get_weights()
    model.fit(X, np.ones((3, 6, model.output_shape[-1])), epochs=1, verbose=0)
    assert all(np.abs(w - old).max() > 0 for w, old in zip(model.get_weights(), before, strict=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(loaded(X)), numpy(model(X)))
    np.testing.assert_allclose(stepped(loaded, X), numpy(model(X)), atol=1e-6)


def test_dropout_of_cells_is_chosen_once_a_call_and_is_that_of_keras():
    def cells():
        return [keras.layers.LSTMCell(8, dropout=0.5, seed=1), keras.layers.GRUCell(8, recurrent_dropout=0.5, seed=2)]

    ours, theirs = twins(kseq.RNN(cells()), keras.layers.RNN(cells(), return_sequences=True), X.shape)
    found = [numpy(layer(X, training=True)) for layer in (ours, theirs)]
    np.testing.assert_allclose(*found, atol=1e-6)
    assert np.abs(numpy(ours(X, training=True)) - found[0]).max() > 1e-3
    np.testing.assert_allclose(numpy(ours(X)), numpy(theirs(X)), atol=1e-6)


@pytest.mark.parametrize("stacked", [False, True])
def test_a_cell_draws_nothing_in_inference(stacked):
    """Keras's does so there too, and drops nothing; what it drops while it trains is the same."""

    def cells():
        cell = keras.layers.SimpleRNNCell(8, dropout=0.5, recurrent_dropout=0.5, seed=1)
        return [cell, keras.layers.GRUCell(8)] if stacked else cell

    ours, theirs = twins(kseq.RNN(cells()), keras.layers.RNN(cells(), return_sequences=True), X.shape)
    before = [numpy(v) for v in ours.non_trainable_variables]
    assert before
    inference = numpy(ours(X))
    np.testing.assert_allclose(stepped(ours, X), inference, atol=1e-6)
    np.testing.assert_array_equal([numpy(v) for v in ours.non_trainable_variables], before)
    found = [numpy(layer(X, training=True)) for layer in (ours, theirs)]
    np.testing.assert_allclose(*found, atol=1e-6)
    assert np.abs(found[0] - inference).max() > 1e-3
    np.testing.assert_allclose(numpy(theirs(X)), inference, atol=1e-6)


def test_zoneout_of_a_cell_is_that_of_the_layer():
    ours, theirs = kseq.LSTM(3, zoneout=0.3), kseq.RNN(kseq.ZoneoutCell(keras.layers.LSTMCell(3), 0.3))
    twins(ours, theirs, X.shape)
    np.testing.assert_allclose(numpy(ours(X)), numpy(theirs(X)), atol=1e-6)
    again = type(theirs).from_config(theirs.get_config())
    assert again.cell.rate == 0.3 and again.cell.cell.units == 3


def test_zoneout_of_a_cell_is_drawn_anew_at_every_step():
    layer = kseq.RNN(kseq.ZoneoutCell(Leaky(256), 0.5, seed=1))
    layer.build((2, 40, 4))
    zeros = np.zeros((1, 40, 4), "float32")
    state = layer.initial_state(1, kseq.SequenceSpec((4,)))
    state["cell"] = [ops.ones((1, 256))]
    seed = numpy(layer.cell.seed_generator.state)
    _, new = layer.call_step(kseq.Sequence(zeros), state, training=True)  # a value is halved where it is not kept
    kept = 40 + np.log2(numpy(new["cell"][0]))
    assert 19 < kept.mean() < 21 and 2 < kept.std() < 4.5  # of 40 draws: 20 and 3.2, of one draw for all 20 and 20
    assert (numpy(layer.cell.seed_generator.state) != seed).any()


@pytest.mark.parametrize(
    ("cell", "error", "words"),
    [
        (3, TypeError, "a cell is a layer with a `state_size`.*received 3"),
        (keras.layers.Dense(2), TypeError, "received <Dense"),
        ([keras.layers.GRUCell(2), "GRU"], TypeError, "received 'GRU'"),
    ],
)
def test_what_is_no_cell(cell, error, words):
    with pytest.raises(error, match=words):
        kseq.RNN(cell)
    if not isinstance(cell, list):
        with pytest.raises(error, match=words):
            kseq.ZoneoutCell(cell, 0.1)


def test_a_cell_that_changes_its_state_s_shape_is_refused():
    class Growing(Leaky):
        def call(self, inputs, states):
            output, [state] = super().call(inputs, states)
            return output, [ops.concatenate([state, state], axis=-1)]

    with pytest.raises(ValueError, match=r"makes states of shapes \[\(3,\)\] states of shapes \[\(6,\)\]"):
        kseq.RNN(Growing(3)).build((2, 5, 4))
    with pytest.raises(ValueError, match=r"does not take steps of shape \(5, 4\)"):
        kseq.RNN(keras.layers.LSTMCell(3)).build((2, 6, 5, 4))
    with pytest.raises(ValueError, match="`return_sequences` as True; received False"):
        kseq.RNN(keras.layers.LSTMCell(3), return_sequences=False)


WINDOWS = [
    {"padding": "same"},
    {"strides": 2},
    {"dilation_rate": 2, "use_bias": False},
    {"strides": 2, "padding": "same", "recurrent_activation": "hard_sigmoid"},
]


@pytest.mark.parametrize("options", WINDOWS, ids=str)
@pytest.mark.parametrize(("rank", "shape"), [(1, (3, 6, 7, 2)), (2, (3, 6, 5, 6, 2))])
def test_convolutional_lstm_is_that_of_keras(rank, shape, options):
    name = f"ConvLSTM{rank}D"
    ours, theirs = getattr(kseq, name)(2, 3, **options), getattr(keras.layers, name)
    ours, theirs = twins(ours, theirs(2, 3, return_sequences=True, **options), shape)
    x = RNG.normal(size=shape).astype("float32")
    np.testing.assert_allclose(numpy(ours(x)), numpy(theirs(x)), atol=1e-6)
    check_masked(ours, theirs, x)
    np.testing.assert_allclose(stepped(ours, x), numpy(theirs(x)), atol=1e-6)


def test_a_convolutional_lstm_trains_and_drops_values():
    layer = kseq.ConvLSTM1D(2, 3, padding="same", dropout=0.3, recurrent_dropout=0.3, seed=1)
    model = keras.Sequential([keras.Input((None, 5, 2)), layer])
    model.compile("adam", "mse")
    before = model.get_weights()
    x = RNG.normal(size=(3, 6, 5, 2)).astype("float32")
    model.fit(x, np.ones((3, 6, 5, 2)), epochs=1, verbose=0)
    pairs = zip(model.get_weights(), before, strict=True)
    assert all(np.abs(w - old).max() > 0 for w, old in pairs if old.ndim)
    a, b = (numpy(layer(x, training=True)) for _ in range(2))
    assert np.abs(a - b).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"padding": "causal"}, "`padding` must be 'valid' or 'same'; received 'causal'"),
        ({"strides": 2, "dilation_rate": 2}, "one of `strides` and `dilation_rate` must be 1"),
        ({"data_format": "channels_first"}, "`data_format` as 'channels_last'"),
        ({"kernel_size": (2, 2)}, "`kernel_size` must be an integer"),
        ({"filters": 0}, "`filters` must be an integer of at least 1; received 0"),
        ({"go_backwards": True}, "`go_backwards` as False"),
    ],
)
def test_convolutions_that_are_none(options, words):
    with pytest.raises(ValueError, match=words):
        kseq.ConvLSTM1D(**({"filters": 2, "kernel_size": 3} | options))


def test_space_must_be_known_and_wide_enough():
    with pytest.raises(ValueError, match="must hold a window of 3; received an axis of 2"):
        kseq.ConvLSTM1D(2, 3).build((1, 4, 2, 3))
    with pytest.raises(ValueError, match="must be of known size"):
        kseq.ConvLSTM1D(2, 3).build((1, 4, None, 3))
