"""Small files that stand for much more memory than they take on the disk are refused, unless that is meant."""

import io
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from kseq.data import errors, formats
from kseq.data.formats.tf.frames import frame

MUCH = 100 << 20  # takes 100 kB where it is compressed


def npz(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("a.npy", "w", force_zip64=True) as member:
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            head, {"descr": "|u1", "fortran_order": False, "shape": (MUCH // 1024, 1024)}
        )
        member.write(head.getvalue())
        for _ in range(MUCH >> 20):
            member.write(bytes(1 << 20))


def tfrecord(path, kind=31):
    deflate = zlib.compressobj(6, zlib.DEFLATED, kind)
    with open(path, "wb") as file:
        file.write(deflate.compress(frame(bytes(MUCH))) + deflate.flush())


def seqp(path, shape=(1, MUCH), chunk=(1, 1 << 20)):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        found = file.create_dataset("0", shape, "u1", chunks=chunk, maxshape=(None, None), compression="gzip")
        for start in range(0, shape[1], chunk[1]):
            found[:, start : start + chunk[1]] = 0
        for name, text in (("lengths", "[1]"), ("initial_index", "0"), ("final_index", "0")):
            file.create_dataset(name, (1,), h5py.string_dtype())[0] = text


def seqp_of_large_chunks(path):
    seqp(path, (1, 8), (1, MUCH))


def parquet(path, array=None, **options):
    import pyarrow as pa
    import pyarrow.parquet as pq

    array = pa.array([np.zeros(MUCH // 8, "int64")]) if array is None else array
    pq.write_table(pa.table({"a": array}), path, compression="zstd", **options)


def array_record(path):
    writer = pytest.importorskip("array_record.python.array_record_module").ArrayRecordWriter(str(path), "group_size:1")
    writer.write(bytes(MUCH))
    writer.close()


WRITERS = {
    "a.parquet": (parquet, {}),
    "b.parquet": (lambda path: parquet(path, use_dictionary=False), {}),
    "a.array_record": (array_record, {}),
    "a.npz": (npz, {}),
    "a.tfrecord": (tfrecord, {"kind": "bytes"}),
    "z.tfrecord": (lambda path: tfrecord(path, 15), {"kind": "bytes"}),
    "a.hdf5": (seqp, {}),
    "b.hdf5": (seqp_of_large_chunks, {}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_takes_far_more_memory_than_disk_is_refused(tmp_path, name):
    write, options = WRITERS[name]
    write(tmp_path / name)
    assert (tmp_path / name).stat().st_size < MUCH / 64
    tracemalloc.start()
    with pytest.raises(errors.FormatError, match=rf"{name}: .* take \d+ of memory, more than \d+: give max_bytes"):
        list(formats.read(tmp_path / name, **options))
    assert tracemalloc.get_traced_memory()[1] < MUCH / 2
    tracemalloc.stop()
    (record, *_) = formats.read(tmp_path / name, **options, max_bytes=2 * MUCH)
    assert record


def test_an_array_record_whose_group_takes_gigabytes(tmp_path):
    module = pytest.importorskip("array_record.python.array_record_module")
    writer = module.ArrayRecordWriter(str(tmp_path / "a.array_record"), "group_size:12")
    for _ in range(12):
        writer.write(bytes(MUCH))
    writer.close()
    with pytest.raises(errors.FormatError, match=r"array_record: it would take more than \d+ .* give max_bytes"):
        list(formats.read(tmp_path / "a.array_record"))


@pytest.mark.parametrize("encoding", ["RLE_DICTIONARY", "DELTA_BYTE_ARRAY"])
def test_texts_that_rows_share_take_memory_once(tmp_path, encoding):
    import pyarrow as pa

    text, count = "x" * (1 << 20), 5000
    array = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, "int32")), pa.array([text]))
    how = {"use_dictionary": False, "column_encoding": {"a": encoding}} if encoding[0] == "D" else {}
    if encoding[0] == "D":
        array = array[:300].dictionary_decode()
    parquet(tmp_path / "a.parquet", array, **how)
    before = pa.total_allocated_bytes()
    for record in formats.read(tmp_path / "a.parquet"):
        assert record["a"] == text
        assert pa.total_allocated_bytes() - before < MUCH
    assert record


def test_what_is_compressed_well_is_read(tmp_path):
    array = np.zeros((1000, 1000), "uint8")
    np.savez_compressed(tmp_path / "a.npz", a=array)
    assert (tmp_path / "a.npz").stat().st_size * 64 < array.nbytes
    assert len(list(formats.read(tmp_path / "a.npz"))) == 1000
    with pytest.raises(errors.FormatError, match="more than 1000: give max_bytes"):
        formats.read(tmp_path / "a.npz", max_bytes=1000)


def test_a_length_that_lies_takes_no_memory(tmp_path):
    size = struct.pack("<Q", 1 << 40)
    with open(tmp_path / "a.tfrecord", "wb") as file:
        file.write(zlib.compress(frame(b"good")[:0] + size + b"\0" * 100))
    with pytest.raises(errors.FormatError):
        list(formats.read(tmp_path / "a.tfrecord", kind="bytes", verify=False))
