import zipfile
from importlib import resources

import numpy as np
import pytest

from kseq.datasets import japanese_vowels, make_japanese_vowels


@pytest.fixture(scope="module")
def data():
    return japanese_vowels.load()


def test_counts_shapes_and_dtypes(data):
    for (ragged, labels), count, frames in zip(data, (270, 370), (4274, 5687), strict=True):
        assert ragged.values.shape == (frames, 12)
        assert ragged.values.dtype == np.float32
        assert ragged.offsets.shape == (count + 1,)
        assert ragged.offsets.dtype == np.int64
        assert ragged.offsets[0] == 0
        assert ragged.offsets[-1] == frames
        assert labels.shape == (count,)
        assert labels.dtype == np.int32


def test_lengths(data):
    (train, _), (test, _) = data
    lengths = [np.diff(ragged.offsets) for ragged in (train, test)]
    assert (lengths[0].min(), lengths[0].max()) == (7, 26)
    assert (lengths[1].min(), lengths[1].max()) == (7, 29)


def test_labels_are_the_original_split(data):
    (_, train_labels), (_, test_labels) = data
    assert np.bincount(train_labels).tolist() == [30] * 9
    assert np.bincount(test_labels).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]


def test_values_are_the_printed_decimals(data):
    for ragged, _ in data:
        assert np.isfinite(ragged.values).all()
        printed = np.round(ragged.values.astype(np.float64), 6)
        assert np.array_equal(printed.astype(np.float32), ragged.values)
        assert np.abs(printed - ragged.values).max() <= 1.2e-7


def test_first_and_last_frames(data):
    # Copied from JapaneseVowels_TRAIN.ts and JapaneseVowels_TEST.ts.
    (train, _), (test, _) = data
    assert train.values[0, :4].tolist() == np.float32([1.860936, -0.207383, 0.261557, -0.214562]).tolist()
    assert train.values[:4, 0].tolist() == np.float32([1.860936, 1.891651, 1.939205, 1.717517]).tolist()
    last = [
        1.177449,
        -0.40408,
        0.052026,
        -0.284812,
        0.42984,
        -0.203484,
        -0.072393,
        -0.080955,
        -0.244424,
        -0.001849,
        -0.016634,
        0.224688,
    ]
    assert test.values[-1].tolist() == np.float32(last).tolist()


def test_each_call_returns_new_arrays(data):
    (train, labels), _ = japanese_vowels.load()
    assert not np.shares_memory(train.values, data[0][0].values)
    assert not np.shares_memory(labels, data[0][1])


def test_the_script_makes_the_shipped_file(data, tmp_path):
    archive = tmp_path / "aeon-0-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as file:
        for name, (ragged, labels) in zip(("TRAIN", "TEST"), data, strict=True):
            file.writestr(f"{make_japanese_vowels.FOLDER}JapaneseVowels_{name}.ts", as_ts(ragged, labels))
    out = tmp_path / "out.npz"
    make_japanese_vowels.main([str(archive), "--out", str(out)])
    shipped = resources.files("kseq.datasets") / "japanese_vowels.npz"
    with np.load(out) as made, shipped.open("rb") as stream, np.load(stream) as wanted:
        assert made.files == wanted.files
        for name in wanted.files:
            assert made[name].dtype == wanted[name].dtype
            assert np.array_equal(made[name], wanted[name])


def as_ts(ragged, labels):
    lines = ["@data"]
    for start, stop, label in zip(ragged.offsets[:-1], ragged.offsets[1:], labels, strict=True):
        channels = (",".join(f"{number:.6f}" for number in channel) for channel in ragged.values[start:stop].T)
        lines.append(":".join([*channels, str(label + 1)]))
    return "\n".join(lines)


@pytest.mark.parametrize("number", ["?", "NaN", "0.1234567"])
def test_the_script_refuses_what_it_cannot_hold(number):
    line = ":".join([number] * 12 + ["1"])
    with pytest.raises((ValueError, ArithmeticError)):
        make_japanese_vowels.parse("@data\n" + line)


def test_the_script_refuses_channels_of_unequal_length():
    line = ":".join(["0.1"] * 11 + ["0.1,0.2", "1"])
    with pytest.raises(ValueError, match=r"lengths \[1, 2\]"):
        make_japanese_vowels.parse("@data\n" + line)


def test_the_file_is_small_and_its_licence_is_beside_it():
    folder = resources.files("kseq.datasets")
    assert len((folder / "japanese_vowels.npz").read_bytes()) < 300_000
    text = (folder / "LICENSE-japanese-vowels.txt").read_text(encoding="utf-8")
    assert "10.24432/C5NS47" in text
    assert "CC BY 4.0" in text
