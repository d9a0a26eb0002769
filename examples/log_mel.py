"""A streaming log-mel front end on a real recording, against `scipy.signal.stft`.

    pip install 'kseq[examples]'
    apt-get install alsa-utils     # for its spoken recordings; without them the example makes a signal of its own
    python examples/log_mel.py --picture log_mel.png

The front end is the shipped spec `log_mel`: an STFT, mel bands, a floor and a logarithm. It is given the recording in
blocks of 10 ms, as by a microphone, and must give what scipy makes of the whole recording at once.
"""

import argparse
import pathlib

import kseq  # isort: skip - before Keras: it chooses a backend where there is no choice
import numpy as np
import recordings
import scipy.signal
from keras import ops

RECORDING = "Front_Center.wav"


def sizes(rate):
    """The variables of the spec for a sample rate: 25 ms frames, every 10 ms."""
    frame = rate * 25 // 1000
    return {
        "rate": rate,
        "frame": frame,
        "step": rate // 100,
        "fft": 1 << (frame - 1).bit_length(),
        "high": min(7600.0, rate / 2),
    }


def by_scipy(samples, sizes, mels, floor):
    """The same by scipy of all samples at once; frames are those that lie within the signal."""
    frame, step, fft = sizes["frame"], sizes["step"], sizes["fft"]
    window = scipy.signal.get_window("hann", frame)
    options = {"nperseg": frame, "noverlap": frame - step, "nfft": fft, "boundary": None, "padded": False}
    _, _, spectra = scipy.signal.stft(samples.astype("float64"), sizes["rate"], window, **options)
    magnitudes = np.abs(spectra.T) * window.sum()  # scipy divides by it
    bands = kseq.LinearToMelSpectrogram(mels, sizes["rate"], 20.0, sizes["high"])
    return np.log(np.maximum(ops.convert_to_numpy(bands(magnitudes[None].astype("float32")))[0], floor))


def picture(path, wanted, found, seconds):
    """Both spectrograms and their difference."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(3, 1, figsize=(8, 8), sharex=True, layout="constrained")
    shape = {"aspect": "auto", "origin": "lower", "extent": (0, seconds, 0, wanted.shape[1])}
    parts = {
        "scipy.signal.stft of the whole recording": wanted,
        "kseq, in blocks of 10 ms": found,
        "difference": found - wanted,
    }
    for axis, (title, values) in zip(axes, parts.items(), strict=True):
        image = axis.imshow(values.T, **shape)
        axis.set(title=title, ylabel="mel band")
        figure.colorbar(image, ax=axis)
    axes[-1].set(xlabel="seconds")
    figure.savefig(path)
    pyplot.close(figure)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recording", type=pathlib.Path, help=f"a WAV file, 16 bits, one channel; else {RECORDING}")
    parser.add_argument("--seconds", type=float, help="of its start; by default all of it")
    parser.add_argument("--mels", type=int, default=80)
    parser.add_argument("--picture", help="a file to write both spectrograms and their difference to")
    options = parser.parse_args(arguments)
    recording = options.recording or recordings.FOLDER / RECORDING
    if options.recording is None and not recording.exists():
        print(f"{recording} is not there: this is a signal that was made up")
        rate, samples = recordings.made_up(seconds=options.seconds)
    else:
        rate, samples = recordings.load(recording, options.seconds)
    variables, floor = sizes(rate), 1e-5
    spec = kseq.spec.shipped()["log_mel"]
    model = kseq.load_spec(spec, vars=variables | {"mels": options.mels, "floor": floor})

    found, seconds = recordings.streamed(model, samples, rate // 100)
    wanted = by_scipy(samples, variables, options.mels, floor)
    found = found[: len(wanted)]  # the last frames do not lie within the signal
    difference = np.abs(found - wanted)
    print(f"{len(samples) / rate:.2f} s at {rate} Hz: {len(wanted)} frames of {options.mels} mel bands")
    print(f"largest difference to scipy: {difference.max():.2g}, of {wanted.min():.1f} to {wanted.max():.1f}")
    print(f"a block of 10 ms takes {1e3 * float(np.median(seconds)):.2f} ms")
    if options.picture:
        picture(options.picture, wanted, found, len(samples) / rate)
        print(f"picture: {options.picture}")
    return difference.max()


if __name__ == "__main__":
    main()
