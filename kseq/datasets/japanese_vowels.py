"""Japanese Vowels: which of nine speakers said /ae/?"""

from importlib import resources

import numpy as np

from ..ragged import Ragged

_BIAS = 2**23  # as in make_japanese_vowels.py, which wrote the file
_MICRO = 10**6


def load() -> tuple[tuple[Ragged, np.ndarray], tuple[Ragged, np.ndarray]]:
    """Load 640 utterances of nine speakers, in the original split.

    Each utterance is two Japanese vowels, /ae/, as 7 to 29 frames of 12 LPC cepstrum coefficients, in time order
    (10 kHz audio, frames of 25.6 ms every 6.4 ms). The label is the speaker. Nothing is normalised.

    Returns:
        `(train, train_labels), (test, test_labels)`. `train` is a `Ragged` of 270 utterances (30 a speaker, values
        float32 [4274, 12]), `test` of 370 (24 to 88 a speaker, [5687, 12]), both sorted by speaker: shuffle to train.
        Labels are int32, [270] and [370], from 0 to 8 (1 to 9 in the source). Each call returns new arrays.

    The float32 values are those nearest to the printed decimals, at most 1.2e-7 away.

    Source: M. Kudo, J. Toyama and M. Shimbo, "Japanese Vowels", UCI Machine Learning Repository, 1999,
    https://doi.org/10.24432/C5NS47, licence CC BY 4.0; see `LICENSE-japanese-vowels.txt` beside this module.

    Example:

    >>> from kseq.datasets import japanese_vowels
    >>> (train, train_labels), (test, test_labels) = japanese_vowels.load()
    >>> train.values.shape, test.values.shape
    ((4274, 12), (5687, 12))
    >>> train_labels.shape, test_labels.shape
    ((270,), (370,))
    """
    file = resources.files("kseq.datasets") / "japanese_vowels.npz"
    with file.open("rb") as stream, np.load(stream) as arrays:
        planes = arrays["planes"].astype(np.int32)  # [3, N, 12], lowest byte first
        offsets = arrays["offsets"].astype(np.int64)  # [641]
        labels = arrays["labels"].astype(np.int32)  # [640]
        first_test = int(arrays["split"][0])

    steps = (planes[0] | planes[1] << 8 | planes[2] << 16) - _BIAS
    values = (np.cumsum(steps, axis=0, dtype=np.int32) / _MICRO).astype(np.float32)  # [N, 12]
    cut = offsets[first_test]
    # Copies: each part owns its memory, so neither keeps the other alive.
    train = Ragged(values[:cut].copy(), offsets[: first_test + 1].copy())
    test = Ragged(values[cut:].copy(), offsets[first_test:] - cut)
    return (train, labels[:first_test].copy()), (test, labels[first_test:].copy())
