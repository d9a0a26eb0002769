"""Frames, spectra and mel bands against NumPy, scipy and Keras, and complex numbers on all their ways."""

import sys

import keras
import numpy as np
import pytest
import scipy.signal
from keras import ops

import kseq
from kseq import Sequence
from kseq.hints import exporting
from kseq.layers.signal.mel import mel_matrix
from kseq.layers.signal.window_functions import window_values
from kseq.testing import check_layer, transforms

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.5, "tensorflow": 0.5}

RNG = np.random.default_rng(0)
SIGNAL = RNG.standard_normal((2, 64)).astype("float32")
SPECTRA = (RNG.standard_normal((2, 6, 3)) + 1j * RNG.standard_normal((2, 6, 3))).astype("complex64")


def numpy(x):
    return ops.convert_to_numpy(x)


def close(found, wanted):
    np.testing.assert_allclose(numpy(found), wanted, rtol=1e-5, atol=1e-5)


# Windows.


@pytest.mark.parametrize("size", [1, 2, 7, 8])
@pytest.mark.parametrize("name", ["hann", "hamming", "blackman", ("kaiser", 8.6), ("general_cosine", (0.5, 0.25))])
def test_window_functions_are_those_of_scipy_periodic_where_even(name, size):
    wanted = scipy.signal.get_window(name, size, fftbins=size % 2 == 0)
    np.testing.assert_allclose(window_values(name, size), wanted, atol=1e-12)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_window", "'no_such_window' is none of scipy's"),
        (("kaiser",), "none of scipy's"),
        (("hann", 3), "takes no parameters; received"),
        (("inverse_stft",), "takes a step"),
        (("inverse_stft", 0), "at least 1; received 0"),
        (3, "received 3"),
        ("", "received ''"),
        (np.hanning, "must be None, a name"),
    ],
)
def test_a_window_function_that_there_is_not_is_refused(value, message):
    with pytest.raises(ValueError, match=message):
        kseq.STFT(8, 4, window_function=value)
    with pytest.raises(ValueError, match=message):
        kseq.ApplyWindow(window_function=value)


def test_a_window_function_of_scipy_where_scipy_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.signal", None)
    kseq.STFT(8, 4, window_function=("inverse_stft", 4, "hamming"))
    with pytest.raises(ImportError, match=r"'kaiser', 3.0.*pip install scipy.*hann"):
        kseq.STFT(8, 4, window_function=("kaiser", 3.0))


def test_a_window_function_as_lists_is_kept_as_tuples():
    layer = kseq.ApplyWindow(window_function=["general_cosine", [0.5, 0.5]])
    assert layer.window_function == ("general_cosine", (0.5, 0.5))
    assert kseq.ApplyWindow.from_config(layer.get_config()).window_function == layer.window_function


def test_frames_a_window_and_a_transform_are_the_stft():
    parts = kseq.Serial([kseq.Frame(8, 4), kseq.ApplyWindow(2, "hamming"), kseq.RFFT(10, axis=2)])
    whole = kseq.STFT(8, 4, 10, "hamming")
    x = Sequence(ops.convert_to_tensor(SIGNAL), ops.convert_to_tensor(np.arange(64) < [[64], [30]]))
    found, wanted = whole(x).mask_invalid(), parts(x).mask_invalid()
    close(found.values, numpy(wanted.values))
    assert numpy(found.mask).tolist() == numpy(wanted.mask).tolist()
    # Of all frames the first sample is weighted with zero, which frames alone do not know.
    assert kseq.STFT(8, 4).timing.receptive_field == (1, 7)
    assert kseq.Frame(8, 4).timing.receptive_field == (0, 7)


# Spectra.


def test_stft_is_that_of_scipy():
    _, _, wanted = scipy.signal.stft(SIGNAL, nperseg=16, noverlap=12, nfft=20, boundary=None, padded=False)
    found = numpy(kseq.STFT(16, 4, 20)(SIGNAL))[:, : wanted.shape[-1]]
    close(found / 8, wanted.transpose(0, 2, 1))  # scipy divides by the sum of the window


def test_stft_is_that_of_keras():
    real, imaginary = ops.stft(SIGNAL, 16, 4, 16, center=False)
    wanted = numpy(real) + 1j * numpy(imaginary)
    close(kseq.STFT(16, 4)(SIGNAL)[:, : wanted.shape[1]], wanted)
    layer = keras.layers.STFTSpectrogram(
        "magnitude", 6, 4, 8, "hamming", periodic=True, scaling=None, padding="valid", dtype="float32"
    )
    wanted = numpy(layer(SIGNAL[..., None]))
    close(kseq.Spectrogram(6, 4, 8, "hamming")(SIGNAL)[:, : wanted.shape[1]], wanted)


@pytest.mark.parametrize("mode", ["complex", "magnitude", "power", "real_imag"])
@pytest.mark.parametrize("fft_length", [5, 8, 11])
def test_modes_and_the_matrix_agree(mode, fft_length):
    x = RNG.standard_normal((2, 20, 2)).astype("float32")
    options = {"padding": "causal", "fft_padding": "center"}
    spectrum = numpy(kseq.STFT(8, 4, fft_length, **options)(x))
    wanted = {
        "complex": spectrum,
        "magnitude": np.abs(spectrum),
        "power": np.abs(spectrum) ** 2,
        "real_imag": np.stack([spectrum.real, spectrum.imag], -1),
    }[mode]
    for matrix in (False, True):
        layer = kseq.STFT(8, 4, fft_length, mode=mode, use_dft_matrix=matrix, **options)
        close(layer(x), wanted)


def test_transforms_are_those_of_numpy():
    x = np.moveaxis(RNG.standard_normal((2, 5, 6, 2)), -1, -1).astype("float32")
    z = (x + 1j * x[::-1]).astype("complex64")
    close(kseq.FFT(8, axis=2)(z), np.fft.fft(z, 8, axis=2))
    close(kseq.FFT()(x), np.fft.fft(x))
    close(kseq.IFFT(4, axis=-2)(z), np.fft.ifft(z, 4, axis=2))
    close(kseq.IFFT(9, axis=2)(x), np.fft.ifft(x, 9, axis=2))
    close(kseq.RFFT(7, axis=2)(x), np.fft.rfft(x, 7, axis=2))
    close(kseq.IRFFT(7, axis=2)(z), np.fft.irfft(z, 7, axis=2))
    close(kseq.IRFFT(axis=2)(z), np.fft.irfft(z, axis=2))
    close(kseq.RDFT(5)(x), np.fft.rfft(x, 5))
    padded = np.pad(x, [(0, 0), (0, 0), (1, 2), (0, 0)])
    close(kseq.RFFT(9, axis=2, padding="center")(x), np.fft.rfft(padded, axis=2))
    close(kseq.RFFT(3, axis=2, padding="center")(x), np.fft.rfft(x[:, :, 1:4], axis=2))
    close(kseq.IRFFT(7, 4, axis=2, padding="center")(z), np.fft.irfft(z, 7, axis=2)[:, :, 1:5])


def test_mel_bands_are_those_of_keras():
    wanted = keras.layers.MelSpectrogram().linear_to_mel_weight_matrix(5, 17, 8000, 100, 3800)
    close(mel_matrix(17, 5, 8000.0, 100.0, 3800.0), numpy(wanted))


@pytest.mark.parametrize("dtype", ["int16", "int32"])
def test_samples_may_be_integers(dtype):
    x = RNG.integers(-32768, 32767, (2, 16)).astype(dtype)
    close(kseq.STFT(8, 4)(x) / 1e5, numpy(kseq.STFT(8, 4)(x.astype("float32"))) / 1e5)


def test_spectra_are_computed_in_float32_whatever_the_policy():
    # Frames whose sum no float16 holds, and whose digits no bfloat16 does.
    x = np.full((1, 4096), 30.0, "float32")
    found = kseq.STFT(4096, 4096, window_function=None, dtype="mixed_float16")(x)
    assert numpy(found).dtype == "complex64"
    close(found[0, 0, 0] / 4096, 30)
    magnitude = kseq.Spectrogram(64, 64, dtype="mixed_bfloat16")(SIGNAL)
    assert keras.backend.standardize_dtype(magnitude.dtype) == "bfloat16"


def test_magnitudes_of_silence_have_gradients():
    def loss(values):
        return ops.sum(kseq.STFT(4, 2, mode="magnitude")(Sequence(values)).values), ()

    _, _, gradient, _ = transforms.value_and_gradients(loss, [])(np.zeros((1, 8), "float32"), [])
    assert not numpy(gradient).any()


# And back.


@pytest.mark.parametrize(
    ("frame", "step", "fft", "window"),
    [(8, 4, 8, "hann"), (8, 3, 12, "hamming"), (9, 2, 9, ("kaiser", 4.0)), (8, 8, 8, None), (400, 160, 512, "hann")],
)
def test_the_signal_comes_back(frame, step, fft, window):
    x = RNG.standard_normal((1, 4 * frame)).astype("float32")
    forward = kseq.STFT(frame, step, fft, window, fft_padding="center")
    back = kseq.InverseSTFT(frame, step, fft, ("inverse_stft", step, window), fft_padding="center")
    y, inside = numpy(back(forward(x))), slice(frame, 3 * frame)
    np.testing.assert_allclose(y[:, inside], x[:, inside], atol=1e-4)


def test_the_signal_comes_back_from_a_stream():
    network = kseq.Serial([kseq.STFT(8, 4), kseq.InverseSTFT(8, 4, window_function=("inverse_stft", 4))])
    network.build((2, 64))
    stream = kseq.Stream(network, batch_size=2)
    chunks = [stream.push(SIGNAL[:, i : i + 20]) for i in range(0, 64, 20)]
    y = np.concatenate([*chunks, stream.flush()], axis=1)
    assert y.shape == SIGNAL.shape
    np.testing.assert_allclose(y[:, 8:56], SIGNAL[:, 8:56], atol=1e-5)
    assert network.timing.input_latency == 7


def test_spectra_in_two_parts_are_those_of_complex_numbers():
    options = {"fft_length": 4, "window_function": "hamming", "padding": "valid"}
    spectra = kseq.STFT(3, 2, 4)(RNG.standard_normal((2, 9, 3)).astype("float32"))
    parts = ops.stack([ops.real(spectra), ops.imag(spectra)], axis=-1)
    close(kseq.InverseSTFT(3, 2, mode="real_imag", **options)(parts), numpy(kseq.InverseSTFT(3, 2, **options)(spectra)))


@pytest.mark.parametrize("length", [1, 2, 5, 8])
def test_exported_transforms_are_the_same(length):
    """Products with matrices, which every runtime has."""
    x = RNG.standard_normal((2, 3, length)).astype("float32")
    spectra = kseq.RFFT()(x)
    layers = [kseq.IRFFT(length), kseq.InverseSTFT(length, 1, window_function="hamming")]
    wanted = [numpy(layer(spectra)) for layer in layers]
    with exporting():
        close(kseq.RFFT()(x), numpy(spectra))
        for layer, y in zip(layers, wanted, strict=True):
            close(layer(spectra), y)


@pytest.mark.parametrize(("frame", "step"), [(4, 2), (5, 2), (3, 3), (7, 3)])
def test_rows_of_semicausal_full_are_as_long_as_alone(frame, step):
    layer = kseq.OverlapAdd(frame, step, padding="semicausal_full")
    x = RNG.standard_normal((3, 6, frame)).astype("float32")
    y = layer(Sequence.from_lengths(ops.convert_to_tensor(x), ops.convert_to_tensor([6, 2, 0], dtype="int32")))
    for row, length in enumerate([6, 2, 0]):
        alone = numpy(layer(x[row : row + 1, :length]))[0]
        assert numpy(y.mask)[row].sum() == len(alone) == layer.output_length(length)
        np.testing.assert_allclose(numpy(y.values)[row, : len(alone)], alone, atol=1e-5)


def test_overlap_add_undoes_frames():
    x = RNG.standard_normal((1, 12, 2)).astype("float32")
    for padding in ("reverse_causal", "semicausal_full"):
        frames = kseq.Frame(4, 4, padding)(x)
        back = kseq.OverlapAdd(4, 4, padding="semicausal_full" if padding == "semicausal_full" else "causal")
        close(back(frames)[:, :12], x)
    twice = kseq.OverlapAdd(4, 2, "semicausal_full")(kseq.Frame(4, 2, "semicausal_full")(x))
    close(twice[:, 1:12] / 2, x[:, 1:])


# A window that is zero.


def test_a_window_of_zeros_has_no_receptive_field():
    layer = kseq.STFT(4, 2, window_function=("general_cosine", [0.0]), mode="power")
    assert layer.timing.receptive_field is None
    check_layer(layer, (2, 7), gradients=False)


# Fewer steps than a frame.


@pytest.mark.parametrize("time", [0, 1, 11, 12, 23])
def test_fewer_steps_than_frames_have(time):
    x, mask = SIGNAL[:, :time], np.ones((2, time), bool)
    for padding in ("valid", "reverse_causal_valid", "semicausal_full"):
        layer = kseq.STFT(12, 4, padding=padding)
        y = layer(Sequence(ops.convert_to_tensor(x), ops.convert_to_tensor(mask)))
        assert y.values.shape == (2, layer.output_length(time), 7)
        whole = int(numpy(y.mask)[0].sum()) if padding != "semicausal_full" else None
        assert whole in (None, max((time - 12) // 4 + 1, 0))
        assert numpy(layer.compute_mask(x, ops.convert_to_tensor(mask))).tolist() == numpy(y.mask).tolist()


# What is refused.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kseq.Frame(0, 1), "`frame_length` must be an integer of at least 1; received 0"),
        (lambda: kseq.Frame(4, 2, padding="no"), "padding must be one of .*received 'no'"),
        (lambda: kseq.Frame(4, 2, padding=(1, 1)), r"sum to .* = 3; received \(1, 1\)"),
        (lambda: kseq.Frame(4, 2, explicit_padding_is_same_like=False), "as True; received False"),
        (lambda: kseq.OverlapAdd(2, 3), "at least `frame_step`, 3; received 2"),
        (lambda: kseq.OverlapAdd(3, 2, padding="same"), "one of causal, valid, semicausal_full; received 'same'"),
        (lambda: kseq.STFT(4, 2, mode="phase"), "`mode` must be one of .*received 'phase'"),
        (lambda: kseq.STFT(4, 2, fft_length=0), "`fft_length` .*received 0"),
        (lambda: kseq.STFT(4, 2, fft_padding="left"), "`fft_padding` must be one of right, center; received 'left'"),
        (lambda: kseq.FFT(padding="left"), "`padding` must be one of right, center; received 'left'"),
        (
            lambda: kseq.FFT(axis=1)(SIGNAL[..., None]),
            r"`axis` must name channel axes \(2 to 2.*received 1 for values of rank 3",
        ),
        (lambda: kseq.FFT(axis=-2)(SIGNAL[..., None]), "received -2"),
        (lambda: kseq.RFFT()(SPECTRA), "takes real numbers; received complex64"),
        (lambda: kseq.STFT(4, 2)(SPECTRA), "takes real numbers; received complex64"),
        (lambda: kseq.IRFFT()(SPECTRA[..., :1]), "needs `fft_length`"),
        (lambda: kseq.InverseSTFT(4, 2, 6)(SPECTRA), r"= 4 bins, .*received channel shape \(3,\)"),
        (lambda: kseq.InverseSTFT(4, 2, mode="power"), "`mode` must be one of complex, real_imag; received 'power'"),
        (lambda: kseq.InverseSTFT(4, 2, mode="real_imag")(SPECTRA), "takes real numbers; received complex64"),
        (
            lambda: kseq.InverseSTFT(4, 2, mode="real_imag")(SIGNAL[..., None] + np.zeros(3, "float32")),
            r"of shape \(3, ..., 2\); received channel shape \(3,\)",
        ),
        (lambda: kseq.OverlapAdd(4, 2)(SPECTRA), r"takes frames of 4 steps, .*received channel shape \(3,\)"),
        (lambda: kseq.LinearToMelSpectrogram(4, 8000, 100, 5000), "received 100, 5000 and 8000"),
        (lambda: kseq.LinearToMelSpectrogram(4, 8000, 0, 4000)(SPECTRA), "takes real numbers; received complex64"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(TypeError if "real numbers" in message else ValueError, match=message):
        make()


# Complex numbers.


def test_complex_values_in_sequences():
    mask = np.arange(6) < [[6], [2]]
    poisoned = np.where(mask[..., None], SPECTRA, np.nan)
    for x in (
        Sequence(poisoned, mask),
        Sequence(ops.convert_to_tensor(poisoned, dtype="complex64"), ops.convert_to_tensor(mask)),
    ):
        wanted = np.where(mask[..., None], SPECTRA, 0)
        close(x.mask_invalid().values, wanted)
        assert x.spec.dtype == "complex64"
        close(x.mask_invalid().pad_time(1, 2).values, np.pad(wanted, [(0, 0), (1, 2), (0, 0)]))
    rows = Sequence(SPECTRA, mask).to_ragged()
    close(Sequence.from_ragged(rows).values, np.where(mask[..., None], SPECTRA, 0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: kseq.Serial([kseq.IFFT(), kseq.Delay(2), kseq.FFT(), kseq.Lookahead(1)]),
        lambda: kseq.Residual([kseq.IFFT(), kseq.Delay(1, delay_layer_output=False)]),
        lambda: kseq.Parallel([kseq.FFT(), kseq.Identity()], combination="mean"),
    ],
    ids=["serial", "residual", "parallel"],
)
def test_complex_values_in_networks(make):
    check_layer(make(), (4, 7, 3), dtype="complex64")


def test_complex_values_in_a_stream_and_in_a_model(tmp_path):
    x = keras.Input((None, 3), dtype="complex64")
    model = keras.Model(x, kseq.InverseSTFT(4, 2, window_function=("inverse_stft", 2))(kseq.FFT()(kseq.IFFT()(x))))
    wanted = numpy(model(SPECTRA))
    model.save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    stream = kseq.Stream(model, batch_size=2)
    y = np.concatenate([stream.push(SPECTRA[:, :1]), stream.push(SPECTRA[:, 1:]), stream.flush()], axis=1)
    close(y, wanted)


def test_complex_values_are_as_precise_as_the_policy():
    assert kseq.Delay(1, dtype="float64").output_spec(kseq.SequenceSpec((3,), "complex64")).dtype == "complex128"
    assert kseq.Delay(1, dtype="mixed_float16").output_spec(kseq.SequenceSpec((3,), "complex128")).dtype == "complex64"


def test_lookahead_may_keep_the_length():
    y = kseq.Lookahead(2, preserve_length_in_layer=True)(Sequence(ops.convert_to_tensor(SPECTRA)))
    close(y.values, np.pad(SPECTRA[:, 2:], [(0, 0), (0, 2), (0, 0)]))
    assert numpy(y.mask).tolist() == [[True] * 4 + [False] * 2] * 2
