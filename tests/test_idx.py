"""The IDX reader: all of a file, or one sentence that names it."""

import gzip
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from idx_files import idx_bytes

from pycnn.datasets import IdxError, idx, load_mnist, read_data_sets

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


@pytest.mark.parametrize(
    ("name", "reason"), [("a" * 5000, "File name too long"), ("a\0b", "embedded null byte")]
)
def test_a_name_that_no_file_can_have(name, reason):
    for read in (idx.read_images, idx.read_labels, load_mnist, read_data_sets):
        with pytest.raises(IdxError, match=f"{name[-2:]}: cannot be read: {reason}.$"):
            read(name)


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


def test_the_largest_file_has_a_bound(tmp_path):
    path = tmp_path / "images"
    for n, answer in ((idx.MAX_ITEMS, "0 bytes after the header"), (idx.MAX_ITEMS + 1, "250,000")):
        header = struct.pack(">HBB3I", 0, 8, 3, n, 28, 28)
        assert answer in refused(path, header)


def test_images_and_labels_are_not_taken_for_each_other(tmp_path):
    path = tmp_path / "file"
    labels = idx_bytes(ARRAY[0, 0] % 10)
    message = refused(path, labels)
    assert "magic number 2049 (unsigned bytes, 1 axis)" in message
    assert "2051 (unsigned bytes, 3 axes)" in message
    path.write_bytes(WHOLE)
    with pytest.raises(IdxError, match=r"magic number 2051 .* expected 2049"):
        idx.read_labels(path)


def test_a_name_that_lies_about_gzip_is_told_the_right_one(tmp_path):
    assert "call it images.gz" in refused(tmp_path / "images", gzip.compress(WHOLE))
    assert "call it images" in refused(tmp_path / "images.gz", WHOLE)
    assert "call it" not in refused(tmp_path / "images.gz", b"<html>")


def test_two_streams_and_zeros_at_the_end_are_refused(tmp_path):
    whole = gzip.compress(WHOLE)
    path = tmp_path / "file.gz"
    assert "after the end" in refused(path, whole + gzip.compress(b""))
    assert "after the end" in refused(path, whole + bytes(512))
    halves = gzip.compress(WHOLE[:1000]) + gzip.compress(WHOLE[1000:])
    assert "after the end" in refused(path, halves)


def test_a_damaged_byte_anywhere_is_never_a_result(tmp_path):
    whole = gzip.compress(WHOLE, mtime=0)
    path = tmp_path / "file.gz"
    for at in range(10, len(whole), 7):  # after the gzip header, whose time and system are free
        wrong = bytearray(whole)
        wrong[at] ^= 0x10
        refused(path, bytes(wrong))


def test_what_is_no_file_is_refused(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    with pytest.raises(IdxError, match="images: found a folder; expected an IDX file"):
        idx.read_images(folder)
    with pytest.raises(IdxError, match="no regular file"):
        idx.read_images("/dev/null")
    with pytest.raises(IdxError, match="nowhere: cannot be read: No such file"):
        idx.read_images(tmp_path / "nowhere")


@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_bytes_after_a_gzip_stream_are_found_at_the_end_of_a_piece(tmp_path, beyond):
    """Where the stream ends with what is read at once, the decoder has seen nothing behind it."""
    plain = gzip.compress(WHOLE, mtime=0)
    name = b"n" * (idx.PIECE + beyond - len(plain) - 1) + b"\0"
    packed = plain[:3] + b"\x08" + plain[4:10] + name + plain[10:]  # flag FNAME, RFC 1952
    assert len(packed) == idx.PIECE + beyond
    path = tmp_path / "images.gz"
    path.write_bytes(packed)
    np.testing.assert_array_equal(idx.read_images(path), ARRAY)
    assert "more bytes after the end of the gzip stream" in refused(path, packed + b"\0")
