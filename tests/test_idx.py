"""The IDX reader: all of a file, or one sentence that names it."""

import gzip
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from idx_files import idx_bytes

from pycnn.datasets import IdxError, idx

ARRAY = (np.arange(3 * 28 * 28) % 251).astype(np.uint8).reshape(3, 28, 28)
WHOLE = idx_bytes(ARRAY)


def refused(path, content):
    path.write_bytes(content)
    with pytest.raises(IdxError) as caught:
        idx.read_images(path)
    message = str(caught.value)
    assert str(path) in message
    assert "found" in message
    assert "expected" in message
    assert message.endswith(".")
    return message


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_reads_what_was_written(tmp_path, packed):
    path = tmp_path / ("file.gz" if packed else "file")
    path.write_bytes(gzip.compress(WHOLE) if packed else WHOLE)
    array = idx.read_images(path)
    assert array.dtype == np.uint8
    assert array.flags.c_contiguous
    np.testing.assert_array_equal(array.reshape(3, 28, 28), ARRAY)
    path.write_bytes(gzip.compress(idx_bytes(ARRAY[0, 0] % 10)) if packed else b"")
    if packed:
        np.testing.assert_array_equal(idx.read_labels(path), ARRAY[0, 0] % 10)


CASES = {
    "empty": (b"", "0 bytes"),
    "magic": (b"\x89PNG" + bytes(20), "89 50 4e 47"),
    "type": (idx_bytes(ARRAY, kind=13), "32-bit floats"),
    "rank": (idx_bytes(ARRAY[0]), "magic number 2050"),
    "cut_header": (WHOLE[:9], "9 bytes"),
    "short": (WHOLE[:-1], "2,351 bytes"),
    "trailing": (WHOLE + b"x", "more"),
    "item_shape": (idx_bytes(ARRAY.reshape(3, 14, 56)), "14 x 56"),
    "no_items": (idx_bytes(ARRAY[:0]), "0 images"),
    "lying_header": (struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 28, 28), "4,294,967,295 images"),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("case", CASES)
def test_refuses(tmp_path, case, packed):
    content, word = CASES[case]
    path = tmp_path / ("file.gz" if packed else "file")
    assert word in refused(path, gzip.compress(content) if packed else content)


def test_refuses_a_damaged_gzip(tmp_path):
    whole = gzip.compress(WHOLE)
    path = tmp_path / "file.gz"
    for cut in (9, 1, len(whole) - 12):
        assert "cut off" in refused(path, whole[:-cut])
    assert "after the end" in refused(path, whole + b"more")
    for at in (-8, -1):  # the checksum, the length
        wrong = bytearray(whole)
        wrong[at] ^= 1
        assert "corrupt" in refused(path, bytes(wrong))
    assert "gzip" in refused(path, WHOLE)


def test_a_gzip_bomb_is_never_unpacked(tmp_path):
    bomb = zlib.compressobj(9, wbits=31)
    content = bomb.compress(WHOLE) + bomb.compress(bytes(300_000_000)) + bomb.flush()
    assert len(content) < 400_000
    tracemalloc.start()
    refused(tmp_path / "bomb.gz", content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_label_above_nine_is_named(tmp_path):
    path = tmp_path / "labels"
    path.write_bytes(idx_bytes(np.array([1, 2, 10])))
    with pytest.raises(IdxError, match="found label 10 at position 2; expected 0 to 9"):
        idx.read_labels(path)
