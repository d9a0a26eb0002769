"""A causal U-Net that takes noise out of spoken recordings: trained for a minute, then streamed.

    pip install 'kseq[examples]'
    apt-get install alsa-utils     # for its spoken recordings; without them the example makes signals of its own
    python examples/denoise_unet.py --picture denoise_unet.png

The model is the shipped spec `denoise_unet`. It is trained on recordings at 16 kHz with noise added, from white to
pink, and heard on one that it has never seen, which is then given to it block by block, as by a microphone.
With `--padding reverse_causal` it looks ahead: what the skips carry waits in the stream for what comes back up.
"""

import argparse
import json
import time

import kseq  # isort: skip - before Keras: it chooses a backend where there is no choice
import keras
import numpy as np
import recordings
from keras import ops

RATE = 16000
CROP = 8192  # samples of a training example, half a second
LEVELS = (0, 5, 10)  # dB of the signal over the noise that is added to what is heard


def at_16_khz(rate, samples):
    """The samples at the rate of the model, with a deviation of 0.1."""
    samples = ops.convert_to_numpy(kseq.Resample(RATE, rate)(samples[None, :, None]))[0, :, 0]
    return 0.1 * samples / samples.std()


def with_noise(rng, clean, decibels):
    """Clean samples [..., T] with noise between white and pink, so many `decibels` below them."""
    spectrum = np.fft.rfft(rng.standard_normal(clean.shape))
    frequencies = np.maximum(np.fft.rfftfreq(clean.shape[-1], 1 / RATE), 50)
    tilt = rng.uniform(0, 1, (*clean.shape[:-1], 1))
    noise = np.fft.irfft(spectrum * frequencies**-tilt, clean.shape[-1])
    size = clean.std(-1, keepdims=True) * 10 ** (-np.asarray(decibels) / 20)
    return (clean + size * noise / noise.std(-1, keepdims=True)).astype("float32")


def batches(rng, signals, size=8):
    """Noisy and clean crops of signals, [size, CROP, 1], without end."""
    while True:
        clean = []
        for _ in range(size):
            signal = signals[rng.integers(len(signals))]
            start = rng.integers(CROP // 2, len(signal) + CROP // 2)  # a crop may reach over an end by its half
            clean.append(np.pad(signal, CROP)[start : start + CROP] * 10 ** rng.uniform(-0.3, 0.3))
        clean = np.stack(clean).astype("float32")
        yield with_noise(rng, clean, rng.uniform(-2.5, 10, (size, 1)))[..., None], clean[..., None]


def si_snr(clean, found):
    """Scale-invariant ratio of signal to noise, in dB, of `found` [T]."""
    clean, found = clean - clean.mean(), found - found.mean()
    signal = clean * (found @ clean) / (clean @ clean)
    return 10 * np.log10((signal @ signal) / np.sum((found - signal) ** 2))


def picture(path, signals):
    """The spectrograms of signals by their names."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(signals), 1, figsize=(8, 8), sharex=True, layout="constrained")
    for axis, (title, samples) in zip(axes, signals.items(), strict=True):
        axis.specgram(samples + 1e-6, NFFT=512, noverlap=384, Fs=RATE, vmin=-120, vmax=-40)
        axis.set(title=title, ylabel="Hz")
    axes[-1].set(xlabel="seconds")
    figure.savefig(path)
    pyplot.close(figure)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=100, help="batches of an epoch")
    parser.add_argument("--seconds", type=float, help="of the start of each recording; by default all of it")
    parser.add_argument("--padding", default="semicausal", help="of the convolutions, as the spec says")
    parser.add_argument("--picture", help="a file to write spectrograms of the clean, noisy and cleaned recording to")
    parser.add_argument("--json", action="store_true", help="print what was measured as JSON, and nothing else")
    options = parser.parse_args(arguments)

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    steps = options.epochs * options.steps
    vars = {"padding": options.padding, "steps": steps}
    model = kseq.load_spec(kseq.spec.shipped()["denoise_unet"], vars=vars)
    stream_timing = kseq.Stream(model).timing
    block = stream_timing.block_size

    spoken, made_up = recordings.spoken(options.seconds)
    signals = {name: at_16_khz(*recording) for name, recording in spoken.items()}
    held_out = next(iter(signals))
    clean = signals.pop(held_out)
    clean = clean[: len(clean) // block * block]

    begin = time.perf_counter()
    # Without `shuffle=False` Keras warns that it cannot shuffle a generator.
    given = batches(rng, list(signals.values()))
    model.fit(given, epochs=options.epochs, steps_per_epoch=options.steps, shuffle=False, verbose=0)
    trained = time.perf_counter() - begin

    noisy = np.stack([with_noise(np.random.default_rng(1), clean, level) for level in LEVELS])
    cleaned = ops.convert_to_numpy(model(noisy[..., None]))[..., 0]
    streamed, seconds = recordings.streamed(model, noisy[1, :, None], block)
    took = float(np.median(seconds))
    measured = {
        "recording": held_out,
        "made_up": made_up,
        "seconds": len(clean) / RATE,
        "parameters": model.count_params(),
        "training_steps": steps,
        "training_seconds": trained,
        "si_snr": {
            str(level): {"before": float(si_snr(clean, before)), "after": float(si_snr(clean, after))}
            for level, before, after in zip(LEVELS, noisy, cleaned, strict=True)
        },
        "block_ms": 1e3 * block / RATE,
        "latency_ms": 1e3 * stream_timing.input_latency / RATE,
        "difference": float(np.abs(streamed[:, 0] - cleaned[1]).max()),
        "step_ms": 1e3 * took,
        "real_time_factor": took * RATE / block,
    }
    if options.picture:
        picture(options.picture, {"clean": clean, f"noise at {LEVELS[1]} dB": noisy[1], "streamed": streamed[:, 0]})
    if options.json:
        print(json.dumps(measured))
    else:
        report(measured)
    return measured


def report(measured):
    """What was measured, in words."""
    if measured["made_up"]:
        print(f"{recordings.FOLDER} has no recordings: the signals were made up")
    print(f"{measured['parameters']} parameters, {measured['training_steps']} steps of training", end=" ")
    print(f"in {measured['training_seconds']:.0f} s, without {measured['recording']}, which is now heard")
    for level in measured["si_snr"].values():
        print(f"signal to noise: {level['before']:.1f} dB before, {level['after']:.1f} dB after")
    print(f"in blocks of {measured['block_ms']:.0f} ms, latency {measured['latency_ms']:.1f} ms beside them:", end=" ")
    print(f"largest difference to the whole {measured['difference']:.1g}")
    print(f"a block takes {measured['step_ms']:.2f} ms, {measured['real_time_factor']:.2f} of real time")


if __name__ == "__main__":
    main()
