"""How the autoencoder trains as a Keras model does: runs that go on, what is measured, what is refused."""

import kseq  # isort: skip - before Keras: it chooses a backend where there is no choice
import keras
import numpy as np
import pytest

from kseq.models import SequenceAutoencoder, length_errors
from kseq.models.scaling import Scaling

TODAYS = {"jax": 0.15, "tensorflow": 0.15}


def sequences(count=24, seed=0, least=3, most=9):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, 2)).astype("float32") for n in rng.integers(least, most + 1, count)]


def made(steps_per_execution=1, **options):
    ae = SequenceAutoencoder(**{"input_dim": 2, "layer_sizes": [4], "latent_dim": 3} | options)
    ae.compile(optimizer=keras.optimizers.Adam(1e-2), steps_per_execution=steps_per_execution)
    return ae


def generator(rows):
    """What gives the same again from its beginning."""
    random, calls = np.random.default_rng(3), []

    def give(batch_size):
        calls.append(batch_size)
        return [rows[i] for i in random.integers(0, len(rows), batch_size)], None, len(calls) % 5 == 0

    give.calls = calls
    return give


def fit(ae, callbacks, **options):
    ae.fit(sequences(), epochs=4, batch_size=8, verbose=0, callbacks=callbacks, **options)


def fit_part_by_part(ae, callbacks):
    fit(ae, callbacks, steps_per_epoch=2)


def train(ae, callbacks):
    ae.train(generator(sequences()), n_iterations=11, batch_size=8, display_step=3, verbose=0, callbacks=callbacks)


class Stop(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("run", "options"),
    [
        (fit, {"rate": 0.3}),
        (fit, {"rate": 0.3, "decoder": "cosine", "hidden": 6}),
        (fit, {"decoder": "autoregressive", "teacher_forcing": 0.5}),
        (fit_part_by_part, {"noise": 0.1}),
        (train, {"noise": 0.1}),
    ],
    ids=["dropout", "cosine_dropout", "scheduled", "steps", "generator"],
)
def test_a_run_that_is_resumed_draws_what_it_would_have_drawn(run, options, tmp_path):
    begin = made(**options).get_weights()

    def trained(*callbacks):
        ae = made(**options)
        ae.set_weights(begin)
        run(ae, list(callbacks))
        return ae

    whole = trained()
    with pytest.raises(KeyboardInterrupt):
        trained(keras.callbacks.BackupAndRestore(tmp_path / "backup"), Stop())
    resumed = trained(keras.callbacks.BackupAndRestore(tmp_path / "backup"))
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_what_the_scale_is_learned_from_is_trained_on_too():
    rows = generator(sequences())
    ae = made()
    ae.train(rows, n_iterations=7, batch_size=4, display_step=3, verbose=0)
    assert int(ae.optimizer.iterations) == 7
    assert len(rows.calls) <= 9  # the last epoch has two more, which some backends read ahead


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras on torch executes one at a time")
def test_iterations_are_batches_also_where_several_are_executed_at_once():
    ae = made(steps_per_execution=2)
    history = ae.train(generator(sequences()), n_iterations=8, batch_size=4, display_step=4, verbose=0).history
    assert int(ae.optimizer.iterations) == 8 and len(history["loss"]) == 2


def test_epochs_of_some_batches_go_on_where_the_last_one_ended():
    whole = made().pairs(sequences(), batch_size=4)
    pairs = whole.of_steps(4)
    assert len(pairs) == 4 and len(whole) > 4
    batches = [batch for turn in range(2) for batch in _batches(whole, turn)]
    for number, batch in enumerate(batches):
        pairs.epoch, index = divmod(number, 4)
        np.testing.assert_array_equal(pairs[index][0]["inputs"].values, batch)


def _batches(pairs, epoch):
    pairs.epoch = epoch
    return [pairs[i][0]["inputs"].values for i in range(len(pairs))]


def test_a_part_that_is_held_out():
    rows = sequences(20)
    ae = made()
    history = ae.fit(rows, validation_split=0.25, epochs=1, verbose=0).history
    assert float(ae.stop.longest) == max(map(len, rows[:15]))
    held = ae.evaluate(rows[15:], verbose=0, return_dict=True)
    assert history["val_nmse"][0] == pytest.approx(held["nmse"], rel=1e-4)
    with pytest.raises(ValueError, match=r"leave sequences on either side; received 0.5 of 1"):
        made().fit(rows[:1], validation_split=0.5)


def test_lengths_of_validation_are_those_of_predictions():
    rows, random = sequences(), np.random.default_rng(0)
    ae = made(decoder="cosine")
    ae.fit(rows, [np.ones((random.integers(4, 12), 2), "float32") for _ in rows], epochs=1, verbose=0)
    # Longer predictions than the batch has steps.
    short = [np.ones((2, 2), "float32") for _ in rows]
    numbers = ae.evaluate(rows, short, verbose=0, return_dict=True)
    found = length_errors(short, ae.predict(rows))
    assert found["length_mae"] > 1
    assert {name: numbers[name] for name in found} == pytest.approx(found, abs=1e-5)


def test_hidden_states_of_both_directions_have_seen_everything():
    ae, rows = made(layer_sizes=[4, 3], bidirectional=True), sequences(4, least=5)
    ae.adapt(rows)
    begin = [row.copy() for row in rows]
    for row in begin:
        row[0] += 1
    for one, other in zip(ae.encode(rows, layers="all"), ae.encode(begin, layers="all"), strict=True):
        assert (np.abs(one - other).max(axis=0) > 1e-4).all()


def test_a_bidirectional_layer_of_ones_own_is_read_at_both_ends():
    rows = sequences(4, least=5)
    ours, theirs = made(bidirectional=True), made(encoder_layers=[kseq.Bidirectional(kseq.GRU(4))])
    for ae in (ours, theirs):
        ae.adapt(rows)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(theirs.encode(rows), ours.encode(rows), atol=1e-6)


# What is refused changes nothing.

GOOD, BAD = sequences(4), [np.zeros((3, 2)), np.full((2, 2), np.nan)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation_data": BAD}, r"validation inputs\[1\].*nan at step 0"),
        ({"validation_data": []}, "validation inputs must be one sequence at least"),
        ({"validation_data": (GOOD, GOOD[:3])}, r"validation inputs\[3\] has no partner"),
        ({"validation_data": (GOOD, GOOD, np.ones(4))}, "without weights"),
        ({"validation_split": 2.0}, "validation_split.*received 2.0"),
        ({"sample_weight": np.ones(4)}, "takes no sample_weight"),
        ({"class_weight": {0: 1.0}}, "takes no class_weight"),
        ({"steps_per_epoch": 0}, "steps_per_epoch.*received 0"),
        ({"batch_size": 0}, "batch_size.*received 0"),
    ],
)
def test_what_fit_refuses(options, message):
    ae = made()
    with pytest.raises(ValueError, match=message):
        ae.fit(GOOD, verbose=0, **options)
    assert not ae.adapted


def test_models_that_are_not_compiled_and_pairs_of_others():
    ae = SequenceAutoencoder(2)
    for call in (lambda: ae.fit(GOOD), lambda: ae.train(generator(GOOD))):
        with pytest.raises(ValueError, match="call compile first"):
            call()
    assert not ae.adapted
    with pytest.raises(ValueError, match=r"channels \(3, 3\).*received \(2, 2\)"):
        made(input_dim=3).fit(ae.pairs(GOOD))


def test_numbers_that_the_model_cannot_hold():
    rows = [row.astype("float64") for row in GOOD]
    rows[2][1, 1] = 1e300
    ae = made()
    ae.adapt(GOOD)
    for call in (ae.fit, ae.encode, ae.predict, ae.anomaly_score):
        with pytest.raises(ValueError, match=r"inputs\[2\].* numbers that float32 has; received 1e\+300 at step 1"):
            call(rows)
    with pytest.raises(ValueError, match=r"finite float32; received codes\[0\]"):
        ae.decode(np.full((1, 3), 1e300))
    wide = made(dtype="float64")
    wide.adapt(rows)
    assert np.isfinite(wide.encode(rows)).all()


@pytest.mark.parametrize("unit", [1e37, 1e-41, 1e-28])
def test_units_of_any_size(unit):
    layer = Scaling()
    layer.build((None, None, 1))
    layer.learn([np.array([[1.0], [2.0], [3.0]], "float32") * np.float32(unit)])
    mean, deviation = (float(keras.ops.convert_to_numpy(weight)[0]) for weight in layer.weights)
    assert mean == pytest.approx(2 * unit, rel=1e-3)
    assert deviation == pytest.approx(np.sqrt(2 / 3) * unit if unit > 1e-30 else 1.0)


def test_codes_from_nowhere_have_an_end():
    rows = sequences()
    ae = made()
    ae.fit(rows, [row[: 1 + (7 * len(row) + i) % len(row)] for i, row in enumerate(rows)], epochs=1, verbose=0)
    longest = 2 * int(ae.stop.longest)
    for size in (1e3, 1e30, 3e38):
        codes = np.random.default_rng(0).uniform(-size, size, (7, 3))
        assert all(1 <= len(row) <= longest for row in ae.decode(codes))


def test_workers_read_the_epoch_that_is_trained_on():
    found = []
    begin = made().get_weights()
    for workers in (1, 2):
        ae = made()
        ae.set_weights(begin)
        pairs = ae.pairs(sequences(40), batch_size=8)
        pairs.workers = workers
        ae.fit(pairs, epochs=3, verbose=0)
        found.append(ae.get_weights())
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_list_of_callbacks_that_keras_has_made():
    ae = made()
    seen = []
    noted = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    history = ae.fit(GOOD, epochs=2, verbose=0, callbacks=keras.callbacks.CallbackList([noted], model=ae)).history
    assert seen == [0, 1] and len(history["loss"]) == 2
