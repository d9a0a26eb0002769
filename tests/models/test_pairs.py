"""What the autoencoder is trained on: lists, stores, generators, in batches of few shapes."""

import kseq  # isort: skip - before Keras: it chooses a backend where there is no choice
import keras
import numpy as np
import pytest

import kseq.data as kd
from kseq.models import SequenceAutoencoder, exponential_decay, length_errors, nmse
from kseq.models.pairs import SequencePairs, rounded
from kseq.models.stop import StopHead


def rows_of(*lengths, channels=2):
    return [np.full((n, channels), i, "float32") for i, n in enumerate(lengths)]


def autoencoder(**options):
    ae = SequenceAutoencoder(**{"input_dim": 2, "encoder": "cosine", "decoder": "cosine", "latent_dim": 3} | options)
    ae.compile(optimizer="adam")
    return ae


def test_every_sequence_comes_once_an_epoch():
    rows = rows_of(*range(1, 40))
    pairs = SequencePairs(rows, batch_size=4)
    orders = []
    for epoch in range(2):
        pairs.epoch = epoch
        seen = [batch["inputs"] for (batch,) in (pairs[i] for i in range(len(pairs)))]
        assert {len(x.values) for x in seen} == {4}
        lengths = np.concatenate([np.asarray(x.mask).sum(1) for x in seen])
        assert sorted(lengths[lengths > 0]) == list(range(1, 40))
        orders.append(lengths.tolist())
    assert orders[0] != orders[1]
    assert len({x.values.shape for x in seen}) <= 8
    assert pairs.shapes()[1] == 2 * sum(range(1, 40))


def test_a_batch_follows_from_seed_and_epoch():
    rows = rows_of(*range(1, 40))
    one, other = SequencePairs(rows, batch_size=4, seed=3), SequencePairs(rows, batch_size=4, seed=3)
    other.epoch = one.epoch = 5
    for i in reversed(range(len(one))):
        np.testing.assert_array_equal(one[i][0]["inputs"].values, other[i][0]["inputs"].values)
    other = SequencePairs(rows, batch_size=4, seed=4)
    other.epoch = 5
    orders = [[pairs[i][0]["inputs"].values[:, 0, 0].tolist() for i in range(len(one))] for pairs in (one, other)]
    assert orders[0] != orders[1]
    with pytest.raises(IndexError, match="received"):
        one[len(one)]


def test_padded_lengths_are_few():
    assert {rounded(n) for n in range(1, 65)} == {8, 16, 24, 32, 40, 48, 56, 64}
    assert all(n <= rounded(n) <= 1.25 * n for n in range(65, 3000))


def test_kinds_of_data(tmp_path):
    rows = rows_of(4, 6, 4)
    with kd.Writer(tmp_path / "store") as writer:
        for row in rows:
            writer.write({"frames": row, "level": row[:, :1], "label": 1})
    with kd.open(tmp_path / "store") as store:
        ae = autoencoder(output_dim=1)
        pairs = ae.pairs(store, "level")
        assert [len(row) for row in pairs.inputs] == [4, 6, 4] and pairs.outputs[1].shape == (6, 1)
        with pytest.raises(ValueError, match=r"one of \['frames', 'level'\]; received 'label'"):
            ae.pairs(store, "label")
        same = autoencoder()
        assert same.pairs(store).outputs is None and same.pairs(store, "frames").outputs is None
        same.fit(store, epochs=1, verbose=0)
        assert same.encode(store).shape == (3, 3)
    ragged = kseq.Ragged(np.concatenate(rows), [0, 4, 10, 14])
    np.testing.assert_allclose(same.encode(ragged), same.encode(rows))
    assert same.encode(np.zeros((2, 5, 2))).shape == (2, 3)


# Generators.


def generator(*batches):
    calls = iter(range(10**6))

    def give(batch_size):
        i = next(calls) % len(batches)
        return (*batches[i], i == len(batches) - 1)

    return give


def test_training_in_iterations(capsys):
    rows = rows_of(4, 5, 6)
    ae = autoencoder()
    counted = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: counted.append(batch))
    history = ae.train(
        generator((rows, None), (rows[:2], None)),
        generator((rows, rows)),
        n_iterations=7,
        batch_size=3,
        display_step=3,
        callbacks=[count],
        verbose=2,
    ).history
    assert len(counted) == 7
    assert len(history["val_nmse"]) == 3 and len(history["loss"]) == 3
    assert "val_nmse" in capsys.readouterr().out
    assert ae.adapted


def test_batches_of_a_generator_have_lengths_of_their_own():
    ae = autoencoder()
    ae.adapt(rows_of(4, 30))
    batches = [(rows_of(n, n), None) for n in (5, 5, 12, 5, 30)]
    history = ae.train(generator(*batches), n_iterations=5, batch_size=2, display_step=3, verbose=0).history
    assert history["length_exact"] == [1, 1]


def test_a_generator_is_a_data_set_of_one_pass():
    rows = rows_of(4, 5, 6)
    pairs = autoencoder().pairs(generator((rows, None), (rows[:2], None)), batch_size=3)
    assert len(pairs.inputs) == 5 and pairs.outputs is None


def _gives(*values):
    return lambda batch_size: values


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (_gives(rows_of(3), None), r"call 0 .* must give \(inputs, outputs, last_batch\); received 2 values"),
        (lambda size: None, "received NoneType"),
        (_gives(rows_of(3), None, "yes"), "by True or False.*received 'yes'"),
        (_gives([], None, True), "call 0 of the generator: inputs must be one sequence at least"),
        (_gives(rows_of(3, 4, 5), None, True), "at most 2 sequences; received 3"),
        (_gives(rows_of(3, 4), rows_of(3), True), r"inputs\[1\] has no partner"),
        (_gives([np.full((2, 2), np.nan)], None, True), r"call 0 of the generator: inputs\[0\].*nan at step 0"),
        (_gives(rows_of(3, channels=3), None, True), "must have 2 channels"),
        (generator((rows_of(3), None), (rows_of(3), rows_of(3))), "always or never; received none in batch 0"),
    ],
)
def test_generators_that_break_their_promise(broken, message):
    with pytest.raises(ValueError, match=message):
        autoencoder().train(broken, n_iterations=4, batch_size=2, display_step=2, verbose=0)
    with pytest.raises(ValueError, match=message):
        autoencoder().pairs(broken, batch_size=2)


def test_a_generator_that_is_none():
    with pytest.raises(TypeError, match="a function of the batch size"):
        autoencoder().train([1, 2], n_iterations=1)


# Numbers.


def test_scores():
    x = [np.array([[1.0], [3.0]]), np.array([[2.0], [2.0], [2.0], [2.0]])]
    assert nmse(x, x) == 0 and nmse(x, [row[:0] for row in x]) == 1
    assert nmse(x, [np.array([[2.0], [2.0]]), x[1]]) == 1
    assert nmse([np.ones((2, 1))], [np.ones((2, 1))]) == 0 and nmse([np.ones((2, 1))], [np.zeros((2, 1))]) == np.inf
    # A step too many costs what it is away from the mean.
    assert nmse(x, [np.array([[1.0], [3.0], [4.0]]), x[1]]) == pytest.approx(2)
    assert length_errors(x, [x[0], x[1][:1]]) == {"length_mae": 1.5, "length_exact": 0.5}
    with pytest.raises(ValueError, match="received 1 for 2"):
        nmse(x, x[:1])
    with pytest.raises(ValueError, match=r"predicted\[0\]"):
        nmse(x, [np.zeros((2, 2)), x[1]])


def test_a_rate_that_falls():
    rate = exponential_decay(1e-2, 1e-4, 100)
    assert [float(rate(step)) for step in (0, 50, 100)] == pytest.approx([1e-2, 1e-3, 1e-4], rel=1e-4)
    for wrong in ((0, 1, 10), (1, 0, 10), (1, 1, 0)):
        with pytest.raises(ValueError):
            exponential_decay(*wrong)


def test_lengths_are_a_distribution():
    head = StopHead()
    head.build((None, 3))
    head.learn(np.array([4, 6, 9]), np.array([-1.0, 0.0, 1.5]))
    location, scale = (keras.ops.convert_to_tensor([value], "float32") for value in (6.3, 1.2))
    steps = np.arange(-60, 90, dtype="int32")
    logs = np.asarray(keras.ops.convert_to_numpy(head.loss(location, scale, steps)))
    likely = np.exp(-logs)
    assert likely.sum() == pytest.approx(1, abs=1e-4) and steps[likely.argmax()] == 6
    hazard = keras.ops.convert_to_numpy(head.hazard(location, scale, steps))
    np.testing.assert_allclose(hazard[40:90], (likely / np.cumsum(likely[::-1])[::-1])[40:90], rtol=2e-3)
    # A code says at once how long its sequence is, if that follows from its last number.
    found, _ = head(np.array([[0, 0, number] for number in (-1.0, 1.5)], "float32"))
    assert keras.ops.convert_to_numpy(head.predicted(found)).tolist() == [4, 9]
    assert keras.ops.convert_to_numpy(head.predicted(found, 5)).tolist() == [4, 5]
    assert float(head.rest) == 0
    head.learn(np.array([4, 9, 4]), np.array([-1.0, 0.0, 1.0]))  # and else learns it
    assert float(head.rest) > 1


def test_training_leaves_long_lengths_exact():
    rows = rows_of(500, 700, 901)
    ae = autoencoder(dtype="mixed_float16")
    ae.compile(optimizer=keras.optimizers.Adam(0.1))
    ae.fit(rows, epochs=2, verbose=0)
    assert [len(row) for row in ae.predict(rows)] == [500, 700, 901]
