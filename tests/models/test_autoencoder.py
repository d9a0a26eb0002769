"""The sequence autoencoder: training, codes, predictions, streams, files, and what it refuses."""

import json
import os
import subprocess
import sys

import kseq  # isort: skip - before Keras: it chooses a backend where there is no choice
import keras
import numpy as np
import pytest

from kseq.models import SequenceAutoencoder, length_errors, nmse

TODAYS = {"jax": 0.15, "tensorflow": 0.15}


def sequences(count=24, channels=2, seed=0, least=3, most=9):
    rng = np.random.default_rng(seed)
    return [
        np.sin(np.arange(n)[:, None] * rng.uniform(0.3, 0.8, channels)).astype("float32") * 5 + 2
        for n in rng.integers(least, most + 1, count)
    ]


def made(compiled=True, **options):
    ae = SequenceAutoencoder(**{"input_dim": 2, "layer_sizes": [6, 4], "latent_dim": 5} | options)
    if compiled:
        ae.compile(optimizer=keras.optimizers.Adam(1e-2))
    return ae


def fitted(rows=None, outputs=None, epochs=1, **options):
    ae = made(**options)
    ae.fit(sequences() if rows is None else rows, outputs, epochs=epochs, batch_size=8, verbose=0)
    return ae


VARIANTS = {
    "gru": {},
    "lstm": {"cell": "LSTM", "symmetric": False, "keep_prob": 0.9},
    "fed_back": {"decoder": "autoregressive"},
    "forced": {"decoder": "autoregressive", "teacher_forcing": 1.0},
    "scheduled": {"decoder": "autoregressive", "teacher_forcing": 0.5},
    "bidirectional": {"bidirectional": True},
    "attending": {"bottleneck": False, "heads": 2},
    "attending_fed_back": {"bottleneck": False, "heads": 2, "decoder": "autoregressive"},
    "denoising": {"noise": 0.2},
    "variational": {"kl_weight": 0.1, "kl_warmup": 4},
    "cosine": {"encoder": "cosine", "decoder": "cosine", "cosines": 4},
    "unscaled": {"scaling": False},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_trained_is_saved_and_makes_sequences(variant, tmp_path):
    rows = sequences()
    ae = fitted(rows, epochs=2, **VARIANTS[variant])
    numbers = ae.evaluate(rows, batch_size=8, verbose=0, return_dict=True)
    assert all(np.isfinite(list(numbers.values())))
    assert ("forced_nmse" in numbers) == (variant in ("forced", "scheduled"))
    found = ae.predict(rows)
    # What validation shows is what predict gives, as lists.
    assert numbers["nmse"] == pytest.approx(nmse(_scaled(ae, rows), _scaled(ae, found), [0, 0]), rel=1e-3)
    assert numbers["length_mae"] == pytest.approx(length_errors(rows, found)["length_mae"], abs=1e-5)
    assert numbers["length_exact"] == 1.0  # the code knows it
    ae.save(tmp_path / "ae.keras")
    loaded = keras.models.load_model(tmp_path / "ae.keras")
    assert loaded.get_config() == ae.get_config()
    np.testing.assert_allclose(loaded.encode(rows), ae.encode(rows), atol=1e-6)
    again = loaded.predict(rows)
    assert [len(row) for row in again] == [len(row) for row in found]
    np.testing.assert_allclose(np.concatenate(again), np.concatenate(found), atol=1e-4)
    assert loaded.evaluate(rows, batch_size=8, verbose=0, return_dict=True) == pytest.approx(numbers, rel=1e-3)


def _scaled(ae, rows):
    mean, deviation = map(keras.ops.convert_to_numpy, ae.output_scaling.weights)
    return [(row - mean) / deviation for row in rows]


def test_training_makes_it_better_than_the_mean():
    rows = sequences(64)
    ae = made(layer_sizes=[16], latent_dim=6)
    history = ae.fit(rows, validation_data=rows, epochs=15, batch_size=16, verbose=0).history
    assert history["val_nmse"][-1] < 0.5 and history["val_nmse"][-1] < history["val_nmse"][0]
    assert history["val_length_mae"][-1] == 0


def test_principal_components_are_where_cosines_begin():
    rows = sequences(40, least=6)
    ae = fitted(rows, encoder="cosine", decoder="cosine", cosines=6, latent_dim=13, hidden=0, epochs=0)
    # Twelve coefficients and the length: nothing is lost but what six cosines cannot say.
    basis = [np.cos(np.pi * np.outer(np.arange(len(r)) + 0.5, np.arange(6)) / len(r)) for r in rows]
    best = [b @ np.linalg.lstsq(b, r, rcond=None)[0] for b, r in zip(basis, rows, strict=True)]
    assert nmse(rows, ae.predict(rows)) == pytest.approx(nmse(rows, best), abs=1e-4)


def test_what_is_found_in_closed_form_is_not_trained():
    ae = made(encoder="cosine", decoder="cosine", latent_dim=5)
    ae.adapt(sequences(40))
    before = [keras.ops.convert_to_numpy(w) for w in ae.encoder.weights + ae.decoder.weights]
    ae.fit(sequences(40), epochs=2, verbose=0)
    for one, other in zip(before, ae.encoder.weights + ae.decoder.weights, strict=True):
        np.testing.assert_array_equal(one, keras.ops.convert_to_numpy(other))


def test_another_dimension_and_length():
    rows = sequences(32)
    outputs = [np.repeat(row.sum(1, keepdims=True), 2, axis=0)[:-1] for row in rows]
    ae = fitted(rows, outputs, output_dim=1, epochs=2)
    found = ae.predict(rows)
    assert all(row.shape[1] == 1 for row in found)
    assert length_errors(outputs, found)["length_exact"] == 1.0  # 2 n - 1
    assert np.mean(np.concatenate(outputs)) == pytest.approx(float(ae.output_scaling.mean[0]), rel=1e-5)


@pytest.mark.parametrize("variant", ["gru", "lstm", "fed_back"])
def test_padding_and_company_change_nothing(variant):
    rows = sequences()
    ae = fitted(rows, **VARIANTS[variant])
    together, alone = ae.encode(rows), np.concatenate([ae.encode([row]) for row in rows[:4]])
    np.testing.assert_allclose(together[:4], alone, atol=1e-6)
    for one, row in zip(ae.predict(rows)[:4], rows, strict=False):
        np.testing.assert_allclose(one, ae.predict([row])[0], atol=1e-4)
    for one, other in zip(ae.decode(together), ae.predict(rows), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_layers_and_codes():
    ae, rows = fitted(), sequences()
    assert ae.encode(rows).shape == (24, 5)
    assert [part.shape for part in ae.encode(rows, layers="all")] == [(24, 6), (24, 4)]
    with pytest.raises(ValueError, match="one of last, all; received 'first'"):
        ae.encode(rows, layers="first")


@pytest.mark.parametrize(
    "options",
    [{}, {"cell": "LSTM"}, {"encoder_layers": [kseq.Conv1D(4, 3, padding="causal"), kseq.GRU(5)]}],
    ids=["gru", "lstm", "layers"],
)
def test_a_stream_gives_the_code_of_every_prefix(options):
    ae, row = fitted(**options), sequences(1, least=9)[0]
    wanted = np.concatenate([ae.encode([row[: i + 1]]) for i in range(len(row))])
    whole = kseq.Stream(ae.encoder).push(row[None])[0]
    np.testing.assert_allclose(whole, wanted, atol=1e-5)
    stream = kseq.Stream(ae.encoder)
    steps = np.concatenate([stream.push(row[None, i : i + 1])[0] for i in range(len(row))])
    np.testing.assert_allclose(steps, wanted, atol=1e-5)


def test_what_cannot_stream_says_why():
    with pytest.raises(kseq.NotStreamable, match="reads each row from the end"):
        kseq.Stream(made(bidirectional=True).encoder)
    with pytest.raises(kseq.NotStreamable, match="cosines over the whole sequence"):
        kseq.Stream(made(encoder="cosine", decoder="cosine").encoder)


def test_layers_of_ones_own(tmp_path):
    layers = {
        "encoder_layers": [kseq.Conv1D(4, 3, strides=2, padding="causal"), kseq.LSTM(5)],
        "decoder_layers": [kseq.GRU(4), kseq.Dense(3, activation="tanh")],
    }
    ae, rows = fitted(**layers), sequences()
    assert ae.encode(rows).shape == (24, 5)
    ae.save(tmp_path / "ae.keras")
    loaded = keras.models.load_model(tmp_path / "ae.keras")
    np.testing.assert_allclose(loaded.encode(rows), ae.encode(rows), atol=1e-6)


def test_a_sequence_that_is_unlike_the_others():
    rows = sequences(40, least=6)
    ae = fitted(rows, encoder="cosine", decoder="cosine", cosines=3, latent_dim=5)
    odd = [row.copy() for row in rows]
    odd[7][4] += 30
    scores = ae.anomaly_score(odd)
    assert scores.sequences.argmax() == 7 and scores.steps[7].argmax() == 4
    assert [len(row) for row in scores.steps] == [len(row) for row in rows]


def test_a_run_that_is_resumed_is_the_run_that_was_not_interrupted(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    rows, options = sequences(), {"noise": 0.1, "kl_weight": 0.01, "kl_warmup": 20}

    def run(*callbacks):
        keras.utils.set_random_seed(1)
        ae = made(**options)
        ae.fit(rows, epochs=4, batch_size=8, verbose=0, callbacks=list(callbacks))
        return ae

    whole = run()
    with pytest.raises(KeyboardInterrupt):
        run(keras.callbacks.BackupAndRestore(tmp_path / "backup"), Stop())
    resumed = run(keras.callbacks.BackupAndRestore(tmp_path / "backup"))
    for one, other in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other), atol=1e-6)


CODES = """
import sys, kseq, keras, numpy as np
rows = list(np.load(sys.argv[2]).values())
np.save(sys.argv[3], keras.models.load_model(sys.argv[1]).encode(rows))
"""


@pytest.mark.parametrize("backend", ["jax", "tensorflow", "torch"])
def test_a_file_gives_the_same_codes_in_another_process(backend, tmp_path):
    pytest.importorskip(backend)
    ae, rows = fitted(), sequences(5)
    model, data, codes = (str(tmp_path / name) for name in ("ae.keras", "rows.npz", "codes.npy"))
    ae.save(model)
    np.savez(data, *rows)
    environment = os.environ | {"KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", CODES, model, data, codes], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(codes), ae.encode(rows), atol=1e-5)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "float64"])
def test_policies(dtype, tmp_path):
    rows = sequences()
    ae = fitted(rows, dtype=dtype, layer_sizes=[5])
    assert ae.encode(rows).dtype == ("float64" if dtype == "float64" else "float32")
    assert length_errors(rows, ae.predict(rows))["length_exact"] == 1.0
    ae.save(tmp_path / "ae.keras")
    loaded = keras.models.load_model(tmp_path / "ae.keras")
    assert loaded.dtype_policy.name == dtype
    np.testing.assert_allclose(loaded.encode(rows), ae.encode(rows), atol=1e-6)


def test_a_loss_of_ones_own_counts_valid_steps_alone():
    rows = sequences(16)
    ours, theirs = made(length_weight=0.0), made(False, length_weight=0.0)
    theirs.compile(optimizer="adam", loss="mse")
    for ae in (ours, theirs):
        ae.adapt(rows)
    theirs.set_weights(ours.get_weights())
    both = [ae.evaluate(rows, batch_size=8, verbose=0, return_dict=True)["loss"] for ae in (ours, theirs)]
    assert both[0] == pytest.approx(both[1], rel=1e-5)


def test_a_guard_on_lengths():
    rows = sequences()
    ae = fitted(rows)
    codes = ae.encode(rows)
    codes[:, -1] = 1e6  # the length
    assert {len(row) for row in ae.decode(codes)} == {2 * max(map(len, rows))}
    assert {len(row) for row in ae.decode(codes, max_length=3)} == {3}
    codes[:, -1] = -1e6
    assert {len(row) for row in ae.decode(codes)} == {1}
    assert ae.decode(codes[:0]) == []


def test_constant_channels_and_one_length():
    rows = [np.ones((5, 2), "float32") * [1, 7] for _ in range(8)]
    ae = fitted(rows)
    assert np.isfinite(ae.encode(rows)).all()
    assert {len(row) for row in ae.predict(rows)} == {5}


def test_callbacks_see_what_they_need(tmp_path):
    rows = sequences()
    ae = made()
    stopping = keras.callbacks.EarlyStopping("val_nmse", patience=0, min_delta=10, mode="min")
    best = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="val_nmse", mode="min", save_best_only=True)
    history = ae.fit(rows, validation_data=(rows, rows), epochs=5, verbose=0, callbacks=[stopping, best])
    assert len(history.history["loss"]) == 2
    assert keras.models.load_model(tmp_path / "best.keras").encode(rows).shape == (24, 5)


# What a spec says.

SPEC = """
kseq: 1
input: {shape: [null, 2]}
layers:
  - models.SequenceAutoencoder: {input_dim: 2, layer_sizes: [6, 4], latent_dim: 5}
compile: {optimizer: {Adam: {learning_rate: 0.01}}}
"""


def test_a_spec_builds_it():
    ae = kseq.load_spec_text(SPEC)
    assert isinstance(ae, SequenceAutoencoder) and ae.count_params() == made().count_params()
    ae.fit(sequences(), epochs=1, verbose=0)
    own = "encoder_layers: [{Conv1D: {filters: 3, kernel_size: 2}}, {GRU: {units: 4}}]"
    ae = kseq.load_spec_text(SPEC.replace("layer_sizes: [6, 4]", own))
    assert [type(layer) for layer in ae.encoder.inner] == [kseq.Conv1D, kseq.GRU]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[null, 2]", "[null, 3]", r"takes sequences \[T, 2\]; received the shape \[None, 3\]"),
        ("latent_dim: 5", "latent_dim: 1", "latent_dim must be at least 2"),
        ("latent_dim: 5", "latent_dim: 900000000", "more than .* parameters"),
        ("layers:", "layers:\n  - Dense: {units: 2}", "the only layer of its spec"),
        ("latent_dim", "latent_dims", "unknown argument `latent_dims`"),
    ],
)
def test_specs_that_are_wrong(old, new, message):
    with pytest.raises(kseq.SpecError, match=message):
        kseq.load_spec_text(SPEC.replace(old, new))


# What is refused.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_dim": 0}, "`?input_dim`? must be .*received 0"),
        ({"layer_sizes": []}, "one size at least"),
        ({"layer_sizes": [3, 0]}, r"layer_sizes\[1\]"),
        ({"latent_dim": 1}, "at least 2.*received 1"),
        ({"rate": 1.0}, "rate.*below 1.*received 1"),
        ({"rate": 0.5, "keep_prob": 0.5}, "give one of rate and keep_prob"),
        ({"keep_prob": 0.0}, "keep_prob.*above 0"),
        ({"cell": "Conv1D"}, "one of GRU, LSTM.*'Conv1D'"),
        ({"decoder": "greedy"}, "parallel, autoregressive.*'greedy'"),
        ({"teacher_forcing": 0.5}, 'for decoder="autoregressive".*received 0.5'),
        ({"teacher_forcing": 1.5, "decoder": "autoregressive"}, "from 0 to 1.*1.5"),
        ({"noise": -1}, "noise.*at least 0"),
        ({"encoder": "cosine", "bidirectional": True}, "sees the whole sequence"),
        ({"decoder": "cosine", "bottleneck": False}, "attends to states"),
        ({"encoder": "cosine", "encoder_layers": [kseq.GRU(2)]}, "has no layers"),
        ({"bidirectional": True, "encoder_layers": [kseq.GRU(2)]}, "bidirectional is for layer_sizes"),
        ({"max_length": 0}, "max_length"),
    ],
)
def test_arguments_that_are_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        made(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"layer_sizes": "50"}, "list of sizes"), ({"encoder_layers": ["GRU"]}, r"encoder_layers\[0\] must be a kseq")],
)
def test_arguments_of_another_type(options, message):
    with pytest.raises(TypeError, match=message):
        made(**options)


GOOD = np.zeros((4, 2), "float32")


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([], ValueError, "inputs must be one sequence at least; received none"),
        ("text", TypeError, "received 'text'"),
        (3, TypeError, "received 3"),
        ([GOOD, GOOD[:0]], ValueError, r"inputs\[1\] must have one step at least; received shape \(0, 2\)"),
        ([GOOD, GOOD[0]], ValueError, r"inputs\[1\] must have shape \[T, C\]; received \(2,\)"),
        ([GOOD, GOOD[:, :1]], ValueError, r"inputs\[1\] must have 2 channels; received shape \(4, 1\)"),
        ([GOOD, GOOD.astype(str)], TypeError, r"inputs\[1\] must hold real numbers; received dtype <U"),
        ([GOOD, GOOD + 1j], TypeError, r"inputs\[1\].*complex"),
        ([GOOD, GOOD * np.nan], ValueError, r"inputs\[1\].*nan at step 0, channel 0"),
        ([GOOD, [[1.0, 2.0], [1.0, np.inf]]], ValueError, r"inputs\[1\].*inf at step 1, channel 1"),
        (GOOD, ValueError, r"shape \[N, T, C\]; received \(4, 2\)"),
    ],
)
def test_sequences_that_are_wrong(rows, error, message):
    ae = made()
    for call in (ae.fit, ae.pairs, ae.adapt):
        with pytest.raises(error, match=message):
            call(rows)
    ae.adapt([GOOD])
    for call in (ae.encode, ae.predict, ae.anomaly_score):
        with pytest.raises(error, match=message):
            call(rows)


def test_outputs_that_do_not_fit():
    ae = made(output_dim=1)
    with pytest.raises(ValueError, match=r"2 inputs and 1 outputs: inputs\[1\] has no partner"):
        ae.fit([GOOD, GOOD], [GOOD[:, :1]])
    with pytest.raises(ValueError, match=r"outputs\[0\] must have 1 channels"):
        ae.fit([GOOD], [GOOD])
    with pytest.raises(ValueError, match="received none, and input_dim 2 and output_dim 1"):
        ae.fit([GOOD])


def test_what_needs_data_first():
    ae = made()
    for call in (ae.encode, ae.predict, ae.anomaly_score, ae.evaluate):
        with pytest.raises(ValueError, match=r"has not been fitted"):
            call([GOOD])
    with pytest.raises(ValueError, match="has not been fitted"):
        ae.decode(np.zeros((1, 5)))


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((2, 4)), r"shape \[N, 5\]; received float64 of \(2, 4\)"),
        (np.zeros(5), r"received float64 of \(5,\)"),
        (np.full((2, 5), np.nan), r"codes\[0\]"),
    ],
)
def test_codes_that_are_wrong(codes, message):
    ae = made()
    ae.adapt([GOOD])
    with pytest.raises(ValueError, match=message):
        ae.decode(codes)


def test_a_decoder_that_attends_needs_the_inputs():
    ae = made(bottleneck=False)
    ae.adapt([GOOD])
    with pytest.raises(ValueError, match=r"bottleneck=False.*use predict"):
        ae.decode(np.zeros((1, 5)))


def test_weights_of_another_configuration(tmp_path):
    fitted().save_weights(tmp_path / "ae.weights.h5")
    with pytest.raises(ValueError, match="could not be loaded"):
        made(latent_dim=6).load_weights(tmp_path / "ae.weights.h5")


def test_the_configuration_is_data():
    ae = made(**VARIANTS["attending"], encoder_layers=[kseq.GRU(3)])
    config = json.loads(json.dumps(ae.get_config()))
    again = SequenceAutoencoder.from_config(config)
    assert json.loads(json.dumps(again.get_config())) == config
