"""Frames in and out: every way in gives the values that went out, and what is malformed gives the named error."""

import contextlib
import io
import os
import struct
import tempfile
import tracemalloc
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kseq.cli.frames import FramesError, open_frames
from kseq.cli.writers import NpyWriter, RawWriter
from kseq.sequence import SequenceSpec

ANY_TIME = settings(deadline=None)
WIRE_TYPES = ["<f4", ">f4", "<f8", "<f2", "|b1", "|u1", "<i2", ">i8"]
RAW_MONO = SequenceSpec((1,))


class Pipe:
    """A pipe that gives fewer bytes than it is asked for, and fails the test if it would have to wait."""

    def __init__(self, data, sizes=(1, 5, 3, 64), ends=True):
        self.data, self.sizes, self.ends, self.reads = data, sizes, ends, 0

    def read(self, size):
        assert self.data or self.ends, "waited for more than was needed"
        size = min(size, self.sizes[self.reads % len(self.sizes)])
        self.reads += 1
        part, self.data = self.data[:size], self.data[size:]
        return part


def npy(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def npy_header(text, version=1):
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text.encode("latin1")


def wav(samples, width, rate=8000):
    """A file by the standard library, of integers [T, channels]."""
    low = samples.astype("<i8").view("u1").reshape(*samples.shape, 8)[..., :width].copy()
    if width == 1:
        low += 128  # unsigned, alone of all widths
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((samples.shape[1], width, rate, 0, "NONE", ""))
        out.writeframes(low.tobytes())
    return file.getvalue()


def chunks(frames, block):
    while True:
        chunk = frames.read(block)
        yield chunk
        if len(chunk) < block:
            return


def everything(file, spec, *, block=3, **options):
    return np.concatenate(list(chunks(open_frames(file, spec, **options), block)))


def from_file(data, spec, *, suffix=".npy", **options):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, f"x{suffix}")
        with open(path, "wb") as file:
            file.write(data)
        with open(path, "rb") as file:
            return everything(file, spec, **options)


@st.composite
def arrays(draw):
    channels = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    shape = (draw(st.integers(0, 9)), *channels)
    random = np.random.default_rng(draw(st.integers(0, 99)))
    return random.integers(0, 100, size=shape).astype(draw(st.sampled_from(WIRE_TYPES)))


@ANY_TIME
@given(arrays(), st.booleans(), st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 12))
def test_npy_round_trip(values, batched, sizes, block):
    spec = SequenceSpec(values.shape[1:])
    data = npy(values[None] if batched else values)
    for read in (
        everything(Pipe(data + b"more", sizes), spec, block=block),
        from_file(data, spec, block=block),
        everything(Pipe(data, sizes), spec, kind="npy", block=block),
    ):
        np.testing.assert_array_equal(read, values)
        assert read.dtype == np.float32


@ANY_TIME
@given(arrays(), st.booleans())
def test_fortran_order_from_a_file(values, batched):
    spec = SequenceSpec(values.shape[1:])
    given = np.asfortranarray(values[None] if batched else values)
    np.testing.assert_array_equal(from_file(npy(given), spec), values)


def test_fortran_order_of_more_axes_is_refused_from_a_pipe():
    with pytest.raises(FramesError, match=r"Fortran order .* pipe"):
        open_frames(Pipe(npy(np.ones((3, 2), order="F"))), SequenceSpec((2,)))


@ANY_TIME
@given(st.data(), st.sampled_from([1, 2, 3, 4]), st.integers(1, 3), st.sampled_from([None, 0, 0xFFFFFFFF, 0x7FFFF000]))
def test_wav_round_trip(data, width, channels, length):
    limit = 1 << (8 * width - 1)
    flat = data.draw(st.lists(st.integers(-limit, limit - 1), max_size=12))
    samples = np.array(flat[: len(flat) // channels * channels], "int64").reshape(-1, channels)
    stored = bytearray(wav(samples, width))
    tail = b"" if length is not None else b"LIST\4\0\0\0more"
    if length is not None:
        stored[4:8] = stored[40:44] = struct.pack("<I", length)
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
    spec = SequenceSpec((channels,))
    if length is None and not len(samples):
        tail = b""  # a length of 0 is read to the end
    for read in (
        everything(Pipe(bytes(stored) + tail, sizes), spec, raw_if_unknown=True),
        from_file(bytes(stored) + tail, spec, suffix=".wav"),
    ):
        np.testing.assert_array_equal(read, (samples / limit).astype("float32"))
        assert read.dtype == np.float32 and (not read.size or np.abs(read).max() <= 1)


def test_wav_with_other_chunks_and_the_extensible_header():
    samples = np.array([[1, -2], [300, -400]])
    plain = wav(samples, 3)
    form = bytearray(plain[20:36]) + struct.pack("<HHIH14s", 22, 24, 3, 1, b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71")
    form[:2] = b"\xfe\xff"
    data = b"RIFF\0\0\0\0WAVE" + b"junk\3\0\0\0abc\0" + b"fmt " + struct.pack("<I", len(form)) + form + plain[36:]
    np.testing.assert_array_equal(everything(Pipe(data), SequenceSpec((2,))), (samples / 2**23).astype("float32"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "bool"])
def test_raw_values_and_what_a_pipe_may_start_with(dtype):
    wire = np.dtype("<f4" if dtype == "bfloat16" else dtype)
    values = np.array([[1, 0], [0, 1], [1, 1]], wire)
    spec = SequenceSpec((2,), dtype)
    np.testing.assert_array_equal(everything(Pipe(values.tobytes()), spec, raw_if_unknown=True, block=2), values)
    assert everything(Pipe(b""), spec, raw_if_unknown=True).shape == (0, 2)
    starts = np.frombuffer(b"\x93NUMR\0\0\0", wire)[: 8 // wire.itemsize]
    read = everything(Pipe(b"\x93NUMR\0\0\0"), SequenceSpec((), dtype), raw_if_unknown=True)
    assert read.tobytes() == starts.tobytes()
    read = everything(Pipe(b"\x93NUMPY\1"), SequenceSpec((), "int8"), raw_if_unknown=True, kind="raw")
    assert len(read) == 7


@pytest.mark.parametrize(
    "data", [np.ones((1, 1), "<f4").tobytes(), npy(np.ones((9, 1)))[:136], wav(np.ones((9, 1)), 2)[:46]]
)
def test_the_first_frame_is_not_kept_waiting(data):
    frames = open_frames(Pipe(data, ends=False), RAW_MONO, raw_if_unknown=True)
    assert frames.read(1).shape == (1, 1)


def test_a_known_end_is_not_waited_for():
    frames = open_frames(Pipe(npy(np.ones((2, 1))), ends=False), RAW_MONO)
    assert [len(chunk) for chunk in chunks(frames, 2)] == [2, 0]


FORM = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0"
ERRORS = {
    "neither": (b"text", {}, "must be NPY or WAV.*b't'"),
    "empty": (b"", {}, "must be NPY or WAV"),
    "raw within a frame": (b"\0" * 6, {"kind": "raw"}, "truncated: it ends 2 bytes into frame 2"),
    "npy too short": (npy(np.ones((5, 1)))[:-16], {}, "says 5 frames; received 3"),
    "npy within a frame": (npy(np.ones((5, 1)))[:-1], {}, "7 bytes into frame 5"),
    "npy channels": (npy(np.ones((5, 2))), {}, r"\[T, 1\].*\(5, 2\)"),
    "npy batch": (npy(np.ones((2, 5, 1))), {}, r"\[1, T, 1\].*\(2, 5, 1\)"),
    "npy scalar": (npy(np.ones(())), {}, r"\(\)"),
    "npy dtype": (npy(np.ones((5, 1), complex)), {}, "takes float32.*complex128"),
    "npy text": (npy(np.array([["a"]])), {}, "<U1"),
    "npy objects": (npy_header("{'descr': '|O', 'fortran_order': False, 'shape': (1, 1), }"), {}, "object"),
    "npy subarrays": (
        npy_header("{'descr': ('<f4', (10000,)), 'fortran_order': False, 'shape': (1, 1), }"),
        {},
        "cannot be cast",
    ),
    "npy negative": (npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 1), }"), {}, "an axis must"),
    "npy huge": (
        npy_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': (0x{'f' * 9000}, 1), }}"),
        {},
        "an axis must",
    ),
    "npy many axes": (
        npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }" % ("1," * 4000)),
        {},
        r"\.\.\.$",
    ),
    "npy nested": (npy_header("(" * 9000), {}, "malformed"),
    "npy no end": (b"\x93NUMPY\1\0\xff\xff", {}, "at most 10000"),
    "npy header of 4 GB": (b"\x93NUMPY\2\0\xff\xff\xff\xff{", {}, "at most 10000"),
    "npy version": (b"\x93NUMPY\4\0\0\0", {}, "version"),
    "npy cut": (b"\x93NUMPY\1\0\x10\0{", {}, "truncated"),
    "not npy": (b"RIFF\0\0\0\0WAVE", {"kind": "npy"}, "must start with"),
    "not wav": (npy(np.ones((1, 1))), {"kind": "wav"}, "must start with RIFF"),
    "not wave": (b"RIFF\0\0\0\0AVI ....", {}, "must start with RIFF"),
    "wav channels": (wav(np.ones((3, 2)), 2), {}, r"\(1,\).*\(2,\)"),
    "wav too short": (wav(np.ones((3, 1)), 2)[:-2], {}, "says 3 frames; received 2"),
    "wav without format": (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", {}, "format chunk"),
    "wav of floats": (FORM + struct.pack("<HHIIHH", 3, 1, 1, 4, 4, 32) + b"data\0\0\0\0", {}, "format 3 of 32"),
    "wav of 64 bits": (FORM + struct.pack("<HHIIHH", 1, 1, 1, 8, 8, 64) + b"data\0\0\0\0", {}, "of 64"),
    "wav half frames": (FORM + struct.pack("<HHIIHH", 1, 1, 1, 2, 2, 16) + b"data\3\0\0\0abc", {}, "whole frames"),
    "wav skips": (b"RIFF\0\0\0\0WAVEjunk\xf0\xff\xff\xff", {}, "missing"),
    "wav cut": (b"RIFF\0\0\0\0WAVEfm", {}, "truncated"),
}


@pytest.mark.parametrize(("data", "options", "message"), ERRORS.values(), ids=ERRORS)
def test_errors_say_what_was_received(data, options, message):
    with pytest.raises(FramesError, match=message) as error:
        everything(Pipe(data), RAW_MONO, **options)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    with pytest.raises(FramesError, match=message):
        from_file(data, RAW_MONO, **options)


def test_integers_take_no_floats():
    for data in (npy(np.ones(3)), wav(np.ones((3, 1)), 2)):
        with pytest.raises(FramesError):
            open_frames(Pipe(data), SequenceSpec((), "int32"))
    with pytest.raises(FramesError, match="takes int32"):
        open_frames(Pipe(wav(np.ones((3, 1)), 2)), SequenceSpec((1,), "int32"))


def test_a_fortran_file_that_is_cut():
    with pytest.raises(FramesError, match="truncated"):
        from_file(npy(np.ones((3, 2), order="F"))[:-1], SequenceSpec((2,)))


def test_a_file_that_does_not_block():
    class Empty:
        def read(self, size):
            return None

    with pytest.raises(OSError, match="non-blocking"):
        open_frames(Empty(), RAW_MONO)


@pytest.mark.parametrize("block", [1, 10**12])
def test_memory_follows_what_arrives(block):
    header = npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 1), }")
    tracemalloc.start()
    try:
        with pytest.raises(FramesError, match="truncated"):
            everything(Pipe(header + b"\0" * 4000, sizes=(500,)), RAW_MONO, block=block)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def only_the_named_error(data, kind="auto"):
    for channels in ((), (2,)):
        for read in (
            lambda spec: everything(Pipe(data), spec, kind=kind),
            lambda spec: from_file(data, spec, kind=kind),
        ):
            with contextlib.suppress(FramesError):
                read(SequenceSpec(channels))


@ANY_TIME
@given(
    st.sampled_from([b"", b"\x93NUMPY\1\0", b"\x93NUMPY\2\0", b"RIFF\0\0\0\0WAVE", FORM]),
    st.binary(max_size=80),
    st.sampled_from(["auto", "npy", "wav", "raw"]),
)
def test_random_bytes(start, data, kind):
    only_the_named_error(start + data, kind)


@ANY_TIME
@given(st.text(alphabet="{}()[]'\"\\,:<|>fiuOVUSM148?Lx-+. \n", max_size=40), st.sampled_from([1, 2, 3]), st.booleans())
def test_random_header_text(text, version, as_descr):
    if as_descr:
        text = f"{{'descr': {text!r}, 'fortran_order': False, 'shape': (2,), }}"
    only_the_named_error(npy_header(text, version) + b"\0" * 8)


@ANY_TIME
@given(
    st.sampled_from([npy(np.ones((2, 2))), npy(np.ones((2, 2), order="F")), npy(np.ones(4)), wav(np.ones((3, 2)), 2)]),
    st.lists(st.tuples(st.integers(0, 127), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_changed_bytes(data, changes):
    data = bytearray(data)
    for place, byte in changes:
        data[place % len(data)] = byte
    only_the_named_error(bytes(data))


@ANY_TIME
@given(st.lists(arrays(), min_size=1, max_size=4))
def test_npy_writer(parts):
    parts = [np.resize(part, (len(part), *parts[0].shape[1:])).astype(parts[0].dtype) for part in parts]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "y.npy")
        with NpyWriter(path) as writer:
            for part in parts:
                writer.write(part)
            assert not os.path.exists(path)
        assert os.listdir(folder) == ["y.npy"]
        read = np.load(path)
    np.testing.assert_array_equal(read, np.concatenate(parts))
    assert read.dtype == parts[0].dtype.newbyteorder("<") and writer.length == len(read)


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "y.npy"
    np.save(path, [1.0])

    def fail():
        with NpyWriter(path) as writer:
            writer.write(np.ones((3, 2)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert np.load(path).tolist() == [1.0]
    assert os.listdir(tmp_path) == ["y.npy"]


def test_what_nothing_was_written_to_is_an_array_of_nothing(tmp_path):
    with NpyWriter(tmp_path / "y.npy"):
        pass
    assert np.load(tmp_path / "y.npy").shape == (0,)


def test_a_link_stays_one(tmp_path):
    (tmp_path / "link.npy").symlink_to(tmp_path / "y.npy")
    with NpyWriter(tmp_path / "link.npy") as writer:
        writer.write(np.ones((3, 2)))
    assert (tmp_path / "link.npy").is_symlink()
    assert np.load(tmp_path / "y.npy").shape == (3, 2)


def test_outputs_that_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    for name, message in [("y.txt", "must be a file .npy"), ("pipe.npy", "can be replaced")]:
        with pytest.raises(FramesError, match=message):
            NpyWriter(tmp_path / name)
    with pytest.raises(FileNotFoundError), NpyWriter(tmp_path / "nowhere" / "y.npy"):
        pass


def test_values_are_written_little_endian_and_bfloat16_as_float32(tmp_path):
    bfloat16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    file = io.BytesIO()
    writer = RawWriter(file)
    writer.write(np.array([1, 2], ">i4"))
    writer.write(np.array([1.5], bfloat16))
    assert file.getvalue() == np.array([1, 2], "<i4").tobytes() + np.array([1.5], "<f4").tobytes()
    assert writer.length == 3
    with NpyWriter(tmp_path / "y.npy") as npy_writer:
        npy_writer.write(np.array([1.5], bfloat16))
    assert np.load(tmp_path / "y.npy").tolist() == [1.5]
