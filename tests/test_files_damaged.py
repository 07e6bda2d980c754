"""Files that cannot be read: one sentence each, of which kind the fault may be; and old ones."""

import contextlib
import json
import os

import numpy as np
import pytest
import safetensors
from file_cases import METADATA, TENSORS, assert_same

import pycnn
from pycnn._formats import files
from pycnn._formats.files import read_safetensors, write_safetensors


def test_every_truncation_is_told(tmp_path):
    path = tmp_path / "f"
    write_safetensors(path, TENSORS, METADATA)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        expected = "the file is empty" if length == 0 else f"its {length} bytes are cut short"
        with pytest.raises(pycnn.FileError, match=expected):
            read_safetensors(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(pycnn.FileError, match=r"damaged.*not fully covered|damaged.*Incomplete"):
        read_safetensors(path)


def test_flipped_bytes_of_the_header_are_told_or_harmless(tmp_path, rng):
    path = tmp_path / "f"
    write_safetensors(path, TENSORS, METADATA)
    whole = path.read_bytes()
    n = 8 + int.from_bytes(whole[:8], "little")
    for at in range(n):
        damaged = bytearray(whole)
        damaged[at] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        with contextlib.suppress(pycnn.FileError):
            read_safetensors(path)


def with_header(header):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


OTHER = "bytes are cut short, damaged, or another kind of file"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04" + b"\0" * 50, OTHER),
        (b"\x89PNG\r\n\x1a\n", OTHER),
        (b"\xff" * 8 + b"{}", OTHER),
        (with_header(b"[]"), OTHER),
        (with_header(b"{" + b"x" * 20), OTHER),
        (with_header(b"{" + b'"a":{' * 9 + b"\xff"), OTHER),
        (with_header(b'{"a":' * 5000), OTHER),
        (with_header({"a": [1]}), OTHER),
        (with_header({"a": entry(shape=(-1,))}), OTHER),
        (with_header({"a": entry(shape=(True,))}), OTHER),
        (with_header({"a": entry(offsets=(0, 4, 8))}), OTHER),
        (with_header({"a": entry("X" * 9999)}) + b"\0" * 4, OTHER),
        (with_header({"a": entry("X\n" * 50)}) + b"\0" * 4, OTHER),
        (with_header({"a": entry(shape=(2,))}) + b"\0" * 4, OTHER),
        (with_header({"a": entry(shape=(2**62, 2**62))}), OTHER),
        (with_header({"a": entry(offsets=(4, 8))}) + b"\0" * 8, OTHER),
        (with_header({"a": entry(offsets=(8, 4))}) + b"\0" * 8, OTHER),
        (with_header({"a": entry(), "b": entry()}) + b"\0" * 4, OTHER),
        (with_header({"a": entry(shape=(10**12,), offsets=(0, 4 * 10**12))}), OTHER),
        (with_header({"a": entry("BF16", (2,))}) + b"\0" * 4, "'a' is 'BF16', a type that Nu"),
        (with_header({"a": entry(shape=(1,) * 70)}) + b"\0" * 4, "'a' is no array that NumPy can"),
        (with_header({"a": entry(shape=(0, 2**62, 9), offsets=(0, 0))}), "'a' is no array that N"),
        (with_header({"__metadata__": 3}), OTHER),
        (with_header({"__metadata__": {"pycnn": 3}}), OTHER),
        (with_header({"__metadata__": {"pycnn": "[1]"}}), "'pycnn' is no JSON object"),
        (with_header({"__metadata__": {"pycnn": "{"}}), "'pycnn' is no JSON object"),
        (with_header({"__metadata__": {"pycnn": "[" * 99_999}}), "'pycnn' is no JSON object"),
    ],
)
def test_other_files_are_told(tmp_path, content, message):
    path = tmp_path / "f"
    path.write_bytes(content)
    with pytest.raises(pycnn.FileError, match=message) as caught:
        read_safetensors(path)
    told = str(caught.value).removeprefix(f"{path}: ")
    assert told.endswith("expected a whole safetensors file of numbers.")
    assert len(told) < 400
    assert "\n" not in told


def test_what_is_no_file_is_told(tmp_path):
    with pytest.raises(pycnn.FileError, match="gone: cannot read: No such file"):
        read_safetensors(tmp_path / "gone")
    with pytest.raises(pycnn.FileError, match="this is a folder; expected a safetensors file"):
        read_safetensors(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(pycnn.FileError, match="this is no regular file"):
        read_safetensors(tmp_path / "pipe")
    with pytest.raises(pycnn.FileError, match=r"^'a\\x00b': no file has this name; expected one"):
        read_safetensors("a\0b")


def test_a_file_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    write_safetensors(tmp_path / "f", {}, {})

    def fail(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "open", fail, raising=False)
    with pytest.raises(pycnn.FileError, match="cannot read: Permission denied"):
        read_safetensors(tmp_path / "f")


def test_a_file_that_vanishes_while_it_is_read_is_told(tmp_path, monkeypatch):
    write_safetensors(tmp_path / "f", {}, {})

    def fail(*arguments, **keywords):  # as the library does: no errno
        raise FileNotFoundError("No such file or directory: old")

    monkeypatch.setattr(safetensors, "safe_open", fail)
    with pytest.raises(pycnn.FileError, match="cannot read: No such file or directory: old"):
        read_safetensors(tmp_path / "f")


def test_a_type_that_another_library_added_to_numpy_is_told(tmp_path):
    class Bfloat16:
        get_tensor = staticmethod(lambda name: np.zeros(2, "V2"))
        get_slice = staticmethod(lambda name: Bfloat16())
        get_dtype = staticmethod(lambda: "BF16")

    with pytest.raises(pycnn.FileError, match="'a' is 'BF16', a type that NumPy does not have"):
        files._tensor(Bfloat16(), "a", tmp_path)


def test_names_that_are_no_utf_8(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff")
    write_safetensors(path, TENSORS, METADATA)
    tensors, metadata = read_safetensors(path)
    assert_same(tensors, TENSORS)
    assert metadata == METADATA


def test_nothing_keeps_the_file(tmp_path):
    """What was read stays as it is when the file is written over in place."""
    path = tmp_path / "f"
    write_safetensors(path, {"a": np.ones(100_000)}, {})
    tensors, _ = read_safetensors(path)
    path.write_bytes(b"\0" * path.stat().st_size)
    assert (tensors["a"] == 1).all()
    with open("/proc/self/maps") as maps:
        assert str(path) not in maps.read()


def test_files_of_the_first_writer_of_pycnn_are_read(tmp_path):
    """Names in ASCII, tensors of one size by their names, of whatever type."""
    tensors = {
        "ü": np.array([1.5, -2]), "i": np.array([[3]]), "x": np.array(4, np.float32),
        "b": np.array([True]), "none": np.zeros((2, 0), np.uint8),
    }  # fmt: skip
    header = {"__metadata__": {"pycnn": json.dumps(METADATA, sort_keys=True)}}
    header["i"] = entry("I64", (1, 1), (0, 8))
    header["ü"] = entry("F64", (2,), (8, 24))
    header["x"] = entry("F32", (), (24, 28))
    header["b"] = entry("BOOL", (1,), (28, 29))
    header["none"] = entry("U8", (2, 0), (29, 29))
    numbers = b"".join(tensors[name].tobytes() for name in ("i", "ü", "x", "b", "none"))
    (tmp_path / "f").write_bytes(with_header(header) + numbers)
    read, metadata = read_safetensors(tmp_path / "f")
    assert metadata == METADATA
    assert_same(read, tensors)
