"""Recordings for the examples, and a model that is given them block by block."""

import pathlib
import time

import kseq  # isort: skip - before Keras: it chooses a backend where there is no choice
import numpy as np
import scipy.io.wavfile

# Where alsa-utils puts its spoken recordings: `apt-get install alsa-utils`.
FOLDER = pathlib.Path("/usr/share/sounds/alsa")


def load(path, seconds=None):
    """Sample rate and samples, floats from -1 to 1, of a WAV file of 16 bits and one channel."""
    rate, samples = scipy.io.wavfile.read(path)
    if samples.dtype != np.int16 or samples.ndim != 1:
        raise ValueError(f"{path} must have one channel of 16 bits; received {samples.dtype} of {samples.shape}")
    return rate, samples[: None if seconds is None else int(seconds * rate)].astype("float32") / 32768


def made_up(rate=48000, seconds=None, pitch=120, formants=(600, 1700)):
    """Something like a vowel: harmonics of a gliding pitch under formants, in syllables, and a little noise."""
    rng, t = np.random.default_rng(0), np.arange(int(rate * (seconds or 1.4))) / rate
    phase = 2 * np.pi * np.cumsum(pitch + pitch / 4 * np.sin(2 * np.pi * 0.7 * t)) / rate
    harmonics = np.arange(1, 40)[:, None]
    heard = sum(np.exp(-(((pitch * harmonics - f) / 250) ** 2)) for f in formants)
    voice = (heard * np.sin(harmonics * phase)).sum(0) * np.clip(np.sin(2 * np.pi * 3 * t), 0, None)
    return rate, (0.1 * voice + 1e-3 * rng.standard_normal(len(t))).astype("float32")


def spoken(seconds=None):
    """Sample rate and samples of all that is spoken, by name, and whether it was made up, where there is nothing.

    Args:
        seconds: of the start of each; by default all of it.
    """
    paths = [path for path in sorted(FOLDER.glob("*.wav")) if path.stem != "Noise"]
    if paths:
        return {path.stem: load(path, seconds) for path in paths}, False
    voices = [(pitch, (low, 3 * low)) for pitch in (125, 110, 140) for low in (550, 450, 650)]
    return {f"{pitch} and {low[0]} Hz": made_up(48000, seconds, pitch, low) for pitch, low in voices}, True


def streamed(model, samples, block):
    """The outputs [T', ...] of a model that gets samples [T, ...] block by block, and the seconds that each took."""
    stream, found, seconds = kseq.Stream(model, batch_size=1), [], []
    for start in range(0, len(samples), block):
        begin = time.perf_counter()
        found.append(stream.push(samples[None, start : start + block]))
        seconds.append(time.perf_counter() - begin)
    found.append(stream.flush())
    return np.concatenate(found, axis=1)[0], seconds
