"""Write japanese_vowels.npz from the Japanese Vowels files inside an aeon wheel or sdist.

    pip download --no-deps aeon
    python make_japanese_vowels.py aeon-1.6.0-py3-none-any.whl

Run from anywhere; needs NumPy alone. Same input, same NumPy and zlib: same bytes.
"""

import argparse
import io
import sys
import tarfile
import zipfile
from decimal import Decimal
from pathlib import Path

import numpy as np

FOLDER = "aeon/datasets/data/JapaneseVowels/"
COEFFICIENTS = 12
LABELS = range(1, 10)
MICRO = 10**6  # the files print at most six decimals
BIAS = 2**23  # puts a difference of two frames, in millionths, into 0..2**24


def read_member(archive: Path, name: str) -> str:
    """The text of the one member of a wheel (zip) or sdist (tar) whose path ends with `name`."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            return file.read(only(file.namelist(), name)).decode("utf-8")
    with tarfile.open(archive) as file:
        member = file.extractfile(only(file.getnames(), name))
        if member is None:
            raise ValueError(f"{name} in {archive} is not a regular file")
        return member.read().decode("utf-8")


def only(names: list[str], wanted: str) -> str:
    found = [name for name in names if name == wanted or name.endswith("/" + wanted)]
    if len(found) != 1:
        raise ValueError(f"expected one member {wanted}, found {found}")
    return found[0]


def parse(text: str) -> tuple[list[np.ndarray], list[int]]:
    """Utterances as exact int32 millionths [T_i, 12], in file order, and labels 0..8."""
    rows, labels = [], []
    lines = iter(text.splitlines())
    for line in lines:
        if line.strip().lower() == "@data":
            break
    for line in filter(None, map(str.strip, lines)):
        *channels, label = line.split(":")
        columns = [[to_micro(number) for number in channel.split(",")] for channel in channels]
        lengths = {len(column) for column in columns}
        if len(columns) != COEFFICIENTS or len(lengths) != 1 or int(label) not in LABELS:
            raise ValueError(
                f"utterance {len(rows)}: expected {COEFFICIENTS} channels of one length and a label 1..9, "
                f"got {len(columns)} channels, lengths {sorted(lengths)}, label {label}"
            )
        rows.append(np.array(columns, np.int32).T)  # [12, T] -> [T, 12]
        labels.append(int(label) - 1)
    return rows, labels


def to_micro(number: str) -> int:
    """A printed decimal in millionths; "?" and "NaN" (padding: aeon's files have none) are refused."""
    scaled = Decimal(number) * MICRO  # InvalidOperation for "?"
    if not scaled.is_finite() or scaled != int(scaled):
        raise ValueError(f"expected a number with at most six decimals, got {number!r}")
    return int(scaled)


def encode(micro: np.ndarray) -> np.ndarray:
    """int32 [N, 12] -> uint8 [3, N, 12]: differences in time, one plane a byte, lowest first.

    float32 values compress to 395 kB at best; this compresses to 280 kB and keeps every printed digit.
    """
    steps = np.diff(micro.astype(np.int64), axis=0, prepend=0) + BIAS
    if steps.min() < 0 or steps.max() >= 2 * BIAS:
        raise ValueError(f"differences must fit 24 bits, got {steps.min() - BIAS}..{steps.max() - BIAS}")
    return np.stack([(steps >> shift & 0xFF).astype(np.uint8) for shift in (0, 8, 16)])


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """np.savez_compressed with the highest compression and a fixed date and mode for each member."""
    with zipfile.ZipFile(path, "w") as file:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(name + ".npy")  # dated 1980-01-01
            info.create_system = 3
            info.external_attr = 0o644 << 16
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            file.writestr(info, content.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, help="an aeon wheel (.whl) or sdist (.tar.gz)")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("japanese_vowels.npz"))
    args = parser.parse_args(argv)

    train, train_labels = parse(read_member(args.archive, FOLDER + "JapaneseVowels_TRAIN.ts"))
    test, test_labels = parse(read_member(args.archive, FOLDER + "JapaneseVowels_TEST.ts"))
    rows = train + test
    lengths = [len(row) for row in rows]
    found = (len(train), len(test), min(lengths), max(lengths))
    if found != (270, 370, 7, 29):
        raise ValueError(f"expected 270 and 370 utterances of 7 to 29 frames, got {found}")

    micro = np.concatenate(rows)  # [N, 12]
    exact = micro / MICRO
    error = np.abs(exact.astype(np.float32) - exact).max()
    write_npz(
        args.out,
        {
            "planes": encode(micro),  # uint8 [3, N, 12]
            "offsets": np.cumsum([0, *lengths], dtype=np.int32),  # [641]
            "labels": np.array(train_labels + test_labels, np.int8),  # [640]
            "split": np.array([len(train), len(test)], np.int32),
        },
    )
    sys.stdout.write(
        f"{args.out}: {args.out.stat().st_size} bytes, {len(micro)} frames, "
        f"largest difference of float32 from the printed decimals {error:.2e}\n"
    )


if __name__ == "__main__":
    main()
