"""The IDX reader: all of a file, or one sentence that names it."""

import gzip
import re
import struct
import zlib

import numpy as np
import pytest
from idx_files import idx_bytes

from pycnn.datasets import IdxError, idx

ARRAY = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 4)


def read(path):
    return idx.read(path, "NHW", item_shape=(2, 4), max_items=5)


def refused(path, content, *words):
    path.write_bytes(content)
    with pytest.raises(IdxError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message
    assert message.endswith(".")
    for word in words:
        assert re.search(word, message), message


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_reads_what_was_written(tmp_path, packed):
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(idx_bytes(ARRAY)) if packed else idx_bytes(ARRAY))
    array = read(path)
    assert array.dtype == np.uint8
    assert array.flags.c_contiguous
    assert array.flags.writeable
    np.testing.assert_array_equal(array, ARRAY)


CASES = {
    "empty": (b"", ["holds 0 bytes", "header of 16"]),
    "magic": (b"\x89PNG" + bytes(20), ["89 50 4e 47", "00 00 08 03"]),
    "type": (idx_bytes(ARRAY, kind=13), ["float32", "uint8"]),
    "rank": (idx_bytes(ARRAY[0]), ["2 axes", "expected 3", "magic 2051"]),
    "cut_header": (idx_bytes(ARRAY)[:9], ["inside its header", "9 of 16"]),
    "short": (idx_bytes(ARRAY)[:-1], ["ends early", "39 bytes", "expected 40"]),
    "trailing": (idx_bytes(ARRAY) + b"x", ["goes on", "41 bytes", "expected 40"]),
    "item_shape": (idx_bytes(ARRAY.reshape(3, 4, 2)), [r"\(4, 2\)", r"expected \(2, 4\)"]),
    "no_items": (idx_bytes(ARRAY[:0]), ["announces 0", "1 to 5"]),
    "too_many": (
        idx_bytes(np.zeros((6, 2, 4))),
        ["announces 6 items; expected 1 to 5|decompresses to more than 56 bytes"],
    ),
    "lying_header": (
        struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2, 4),
        ["announces 4294967295", "1 to 5"],
    ),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("case", CASES)
def test_refuses(tmp_path, case, packed):
    content, words = CASES[case]
    refused(tmp_path / "file", gzip.compress(content) if packed else content, *words)


def test_refuses_a_damaged_gzip(tmp_path):
    whole = gzip.compress(idx_bytes(ARRAY))
    path = tmp_path / "file.gz"
    refused(path, whole[:-9], "ends early")
    refused(path, whole[:-1], "ends early")
    refused(path, whole[:12], "ends early")
    refused(path, whole + b"more", "4 bytes follow")
    wrong_sum = bytearray(whole)
    wrong_sum[-8] ^= 1
    refused(path, bytes(wrong_sum), "damaged")
    wrong_data = bytearray(whole)
    wrong_data[11] ^= 0xFF
    refused(path, bytes(wrong_data))
    refused(path, idx_bytes(ARRAY), "not gzip'd")


def test_a_gzip_bomb_is_never_unpacked(tmp_path, monkeypatch):
    bomb = zlib.compressobj(9, wbits=31)
    header = struct.pack(">HBB3I", 0, 8, 3, 5, 2, 4)
    content = bomb.compress(header) + bomb.compress(bytes(200_000_000)) + bomb.flush()
    assert len(content) < 300_000
    unpacked = []
    real = zlib.decompressobj

    class Counting:
        def __init__(self, wbits):
            self.inner = real(wbits=wbits)

        def decompress(self, data, limit):
            piece = self.inner.decompress(data, limit)
            unpacked.append(len(piece))
            return piece

        def __getattr__(self, name):
            return getattr(self.inner, name)

    monkeypatch.setattr(idx.zlib, "decompressobj", lambda wbits: Counting(wbits))
    refused(tmp_path / "bomb.gz", content, "more than 56 bytes")
    assert sum(unpacked) <= 57


def test_find_prefers_gzip_and_names_both(tmp_path):
    with pytest.raises(IdxError, match=r"neither images\.gz nor images"):
        idx.find(tmp_path, "images")
    (tmp_path / "images").write_bytes(b"")
    assert idx.find(tmp_path, "images") == tmp_path / "images"
    (tmp_path / "images.gz").write_bytes(b"")
    assert idx.find(tmp_path, "images") == tmp_path / "images.gz"
    (tmp_path / "labels").mkdir()
    with pytest.raises(IdxError, match=r"labels is a folder"):
        idx.find(tmp_path, "labels")
    with pytest.raises(IdxError, match=r"does not exist"):
        idx.find(tmp_path / "nowhere", "images")
    with pytest.raises(IdxError, match=r"is a file; expected a folder"):
        idx.find(tmp_path / "images", "images")
