"""Bytes that say they are a manifest, or a stream: a file is data, whatever it says."""

import dataclasses
import functools
import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from exported_fakes import manifest_of
from hypothesis import given, settings
from hypothesis import strategies as st

import kseq
from kseq.runtime import manifest as manifests
from kseq.runtime import packed, saved
from kseq.runtime.manifest import MEMBER, Manifest
from kseq.runtime.runners import member, open_runner

FORMAT = manifests._FORMAT
HUGE = 10**13


@functools.cache
def whole():
    """A manifest of a stream with a state, latency, masks and room."""
    layer = kseq.Serial(
        [kseq.Conv1D(2, 3, padding="reverse_causal"), kseq.SelfAttention(1, 2, max_length=8), kseq.GRU(2)]
    )
    layer.build((None, None, 3))
    return manifest_of(layer, 2, 2, masked=True)


def header_and_arrays():
    header, arrays = packed.unpack(FORMAT, whole().to_bytes())
    header.pop("leaves"), header.pop("version")
    return header, arrays


def sealed(header, arrays=None, **changes):
    """Bytes of a manifest with another header, under the right checksum."""
    known, own = header_and_arrays()
    return packed.pack(FORMAT, known | header | changes, own if arrays is None else arrays)


def test_it_is_what_it_was():
    again = Manifest.from_bytes(whole().to_bytes())
    for field in dataclasses.fields(Manifest):
        ours, theirs = getattr(again, field.name), getattr(whole(), field.name)
        if field.name in ("initial_state", "golden_inputs", "golden_outputs"):
            for x, y in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(x, y)
        elif field.name not in ("context", "seeds"):
            assert ours == theirs, field.name
    assert Manifest.from_bytes(sealed({})).inputs == whole().inputs


def test_cut_or_changed_anywhere_it_is_damaged():
    data = whole().to_bytes()
    for end in range(0, len(data), 97):
        with pytest.raises(ValueError, match="manifest"):
            Manifest.from_bytes(data[:end])
    for at in range(0, len(data), 89):
        changed = bytearray(data)
        changed[at] ^= 0x55
        with pytest.raises(ValueError, match="manifest"):
            Manifest.from_bytes(bytes(changed))
    with pytest.raises(TypeError, match="loaded from bytes"):
        Manifest.from_bytes("text")  # type: ignore[arg-type]


def port(**changes):
    """The only input, changed."""
    return {"inputs": [list(whole().inputs[0]._replace(**changes))]}


def leaf(**changes):
    first, *rest = whole().state
    return {"state": [list(first._replace(**changes)), *map(list, rest)]}


WRONG = [
    {"batch_size": HUGE}, {"batch_size": -1}, {"batch_size": 1}, {"batch_size": "2"}, {"batch_size": None},
    {"batch_size": 2.0}, {"batch_size": True}, {"block": HUGE}, {"block": 0}, {"block": 3}, {"block": []},
    {"mode": "else"}, {"mode": None}, {"mode": "layer"}, {"inputs": []}, {"outputs": []}, {"inputs": None},
    {"inputs": "abcdef"}, {"inputs": [1]}, {"state": []}, {"state": [[1, 2, 3, 4, 5]]}, {"order": []},
    {"order": [0, 0, 0]}, {"order": "012"}, {"presence_tensor": 5}, {"presence_tensor": "more"}, {"input_names": [1]},
    {"input_structure": HUGE}, {"input_structure": [0, 0]}, {"input_structure": {}}, {"output_structure": "0"},
    {"output_structure": None}, {"timings": []}, {"timings": [[]]}, {"timings": [[0, [1, 1], 0, 0, [], []]]},
    {"timings": [[1, [1, 0], 0, 0, [], []]]}, {"timings": [[5, [1, 1], 0, 0, [None], []]]}, {"allowances": [[]]},
    {"allowances": [["a", [1], None, False]]}, {"allowances": [["a", "12", None, False]]}, {"model": {}},
    {"model": {"structure": "a"}}, {"model": None}, {"compute_dtype": "object"}, {"compute_dtype": 5},
    port(shape=[HUGE]), port(shape=[-3]), port(shape=["3"]), port(shape=5), port(dtype="O"), port(dtype="S9999999999"),
    port(dtype="float32, (1000000000,)f8"), port(dtype="finfo"), port(dtype="f4"), port(dtype=None),
    port(tensor=None), port(tensor=["x"]), port(name=1), port(mask_tensor=None), port(mask_tensor=7),
    leaf(shape=[HUGE, HUGE]), leaf(shape=[]), leaf(dtype="U3"), leaf(new_tensor=None), leaf(tensor=1),
]  # fmt: skip


@pytest.mark.parametrize("changes", WRONG, ids=lambda changes: str(changes)[:40].replace("<", ""))
def test_what_no_export_says_is_refused_under_the_right_checksum(changes):
    with pytest.raises(ValueError):
        Manifest.from_bytes(sealed(changes))


def test_a_field_or_an_array_that_is_missing_is_refused():
    header, arrays = header_and_arrays()
    may_be_missing = {"order", "state", "allowances", "presence_tensor", "timings", "model", "golden_error"}
    for name in header.keys() - may_be_missing:
        with pytest.raises(ValueError):
            Manifest.from_bytes(packed.pack(FORMAT, {k: v for k, v in header.items() if k != name}, arrays))
    for name in arrays:
        with pytest.raises(ValueError):
            Manifest.from_bytes(packed.pack(FORMAT, header, {k: v for k, v in arrays.items() if k != name}))


def raw(header):
    """Bytes of a header of any text, under the right checksum."""
    body = FORMAT.magic + len(header).to_bytes(4, "little") + header
    return body + packed.xxhash.xxh3_128_digest(body)


@pytest.mark.parametrize(
    "header",
    [
        b"", b"{", b"[]", b"null", b"5", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"version": 1}',
        b'{"version": 1, "leaves": 5}', b'{"version": 1, "leaves": [5]}', b'{"version": [], "leaves": []}',
        b'{"version": 1, "leaves": [["a", [4611686018427387904, 4], "float64"]]}',
        b'{"version": 1, "leaves": [["a", [-1], "float32"]]}',
        b'{"version": 1, "leaves": [["a", [1000000000000], "bool"]]}',
        b'{"version": 1, "leaves": [["a", [1], "object"]]}', b'{"version": 1, "leaves": [[[], [0], "bool"]]}',
    ],
    ids=lambda header: repr(header[:50]),
)  # fmt: skip
def test_a_header_of_anything(header):
    with pytest.raises(ValueError):
        Manifest.from_bytes(raw(header))
    body = raw(header)[len(FORMAT.magic) : -16]
    body = saved._FORMAT.magic + body
    with pytest.raises(ValueError):
        saved.from_bytes(body + packed.xxhash.xxh3_128_digest(body), lambda options: None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, HUGE) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.data(), JSON)
@settings(max_examples=150, deadline=None)
def test_any_value_in_any_place_of_the_header(data, value):
    """It is a manifest, or a ValueError, and a stream of it needs no more than its arrays."""
    header, arrays = header_and_arrays()
    header = json.loads(json.dumps(header))
    place, key = header, data.draw(st.sampled_from(sorted(header)))
    while isinstance(place[key], (list, dict)) and place[key] and data.draw(st.booleans()):
        place = place[key]
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(list(keys)))
    place[key] = value
    try:
        found = Manifest.from_bytes(packed.pack(FORMAT, header, arrays))
    except ValueError:
        return
    assert found.batch_size == 2 and found.golden_inputs[0].shape[1] % found.block == 0


class Attack:
    def __reduce__(self):
        return exec, ("raise __import__('builtins').SystemExit('code of a file has run')",)


def zipped(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_members_of_zip_files_are_read_by_their_names_and_as_they_are(tmp_path):
    path = zipped(tmp_path / "a", {"../outside": b"1", MEMBER: b"2"})
    assert member(path, MEMBER) == b"2"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    bomb = zipped(tmp_path / "b", {MEMBER: bytes(50_000_000)}, compression=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 100_000
    for wrong in (bomb, zipped(tmp_path / "c", {"other": b""})):
        with pytest.raises(ValueError, match=r"no file that `kseq\.export` has written"):
            member(wrong, MEMBER)
    data = path.read_bytes()
    for end in range(len(data)):
        path.write_bytes(data[:end])
        with pytest.raises(ValueError, match=r"no file that `kseq\.export` has written"):
            member(path, MEMBER)


def test_pickles_are_not_read(tmp_path):
    attack = pickle.dumps(Attack())
    array = io.BytesIO()
    np.save(array, np.array([Attack()], object), allow_pickle=True)
    for data in (attack, array.getvalue()):
        for content in ({MEMBER: data}, {MEMBER: whole().to_bytes(), "initial_state.npz": data, "step.jax": data}):
            zipped(tmp_path / "a.stablehlo", content)
            with pytest.raises((ValueError, ImportError)):
                open_runner(tmp_path / "a.stablehlo")
        (tmp_path / "a.onnx").write_bytes(data)
        with pytest.raises((ValueError, ImportError)):
            open_runner(tmp_path / "a.onnx")
