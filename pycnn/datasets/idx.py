"""A strict reader of IDX files, plain or gzip'd: exactly what was announced, or an `IdxError`.

An IDX file is a header of big-endian 32-bit numbers, the magic number and the extent of each axis,
and then the elements, the last axis fastest. The magic number's bytes are 0, 0, the code of the
type (8: unsigned byte) and the number of axes. MNIST and its relatives have two kinds:

    images   2051   n H W     n * H * W bytes     a file of  16 + H * W * n  bytes
    labels   2049   n         n bytes             a file of   8 +         n  bytes

H = W = 28 and labels of 0 to 9, unless the caller takes any.

A gzip'd file of a few hundred kilobytes can unpack to gigabytes, and its header can say anything.
So n is bounded by `MAX_ITEMS` or `MAX_PIXELS`, and what is unpacked by the size that then follows.

Source of the format: http://yann.lecun.com/exdb/mnist/, "The IDX file format"; gzip: RFC 1952.
"""

from __future__ import annotations

import math
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

IMAGE_SIZE = 28
CLASSES = 10
# EMNIST Digits, the largest set of ten classes at this size that is in use, has 240,000 images.
MAX_ITEMS = 250_000
# Of images of any size: four such sets, 784 MB, for example EMNIST ByClass with its 697,932 images.
MAX_SIDE, MAX_PIXELS = 4096, 4 * MAX_ITEMS * IMAGE_SIZE**2
PIECE = 1 << 16
GZIP_MAGIC = b"\x1f\x8b"
TYPES = {
    0x08: "unsigned bytes",
    0x09: "signed bytes",
    0x0B: "16-bit integers",
    0x0C: "32-bit integers",
    0x0D: "32-bit floats",
    0x0E: "64-bit floats",
}


class IdxError(ValueError):
    """A data file is missing or not what it should be; the message names it and says why."""


def read_images(path: str | os.PathLike[str], *, any_size: bool = False) -> Bytes:
    """The images of one IDX file, gzip'd if its name ends in ".gz": uint8 [n, H, W], n >= 1.

    H = W = 28, or with any_size what the header says. Raises IdxError for a file that is not
    exactly such a file.
    """
    return _read(Path(path), ANY_IMAGES if any_size else IMAGES)


def read_labels(path: str | os.PathLike[str], classes: int = CLASSES) -> Bytes:
    """The labels of one IDX file, gzip'd if it ends in ".gz": uint8 [n] below classes, n >= 1.

    Raises IdxError for a file that is not exactly such a file.
    """
    labels = _read(Path(path), LABELS if classes == CLASSES else ANY_LABELS)
    if labels.max() >= classes:
        at = int(np.argmax(labels >= classes))
        _refuse(path, f"label {labels[at]} at position {at:,}", f"0 to {classes - 1}")
    return labels


@dataclass(frozen=True)
class _Kind:
    """What one kind of file holds: items of one shape, or of any within bounds."""

    items: str
    item_shape: tuple[int, ...]
    any_shape: bool = False

    @property
    def rank(self) -> int:
        return 1 + len(self.item_shape)

    @property
    def magic(self) -> int:
        return 0x0800 + self.rank

    @property
    def header_size(self) -> int:
        return 4 + 4 * self.rank


IMAGES = _Kind("images", (IMAGE_SIZE, IMAGE_SIZE))
ANY_IMAGES = _Kind("images", (IMAGE_SIZE, IMAGE_SIZE), any_shape=True)
LABELS = _Kind("labels", ())
ANY_LABELS = _Kind("labels", (), any_shape=True)


class _Source(Protocol):
    """A file, or the content of a gzip'd one: at most n bytes; none only at a sound end."""

    def read(self, n: int, /) -> bytes: ...


class _Gunzip:
    """The content of a gzip'd file; never unpacks more than it is asked for."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._decoder = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    def read(self, n: int, /) -> bytes:
        while not self._decoder.eof:
            packed = self._decoder.unconsumed_tail or self._file.read(PIECE)
            try:
                data = self._decoder.decompress(packed, n)
            except zlib.error as error:
                _refuse(self._path, f"a corrupt gzip stream ({error})", "an intact one")
            if data:
                return data
            if not packed:
                _refuse(self._path, "a gzip stream that is cut off", "a complete one")
        if self._decoder.unused_data or self._file.read(1):
            _refuse(self._path, "more bytes after the end of the gzip stream", "one stream alone")
        return b""


def _refuse(path: str | os.PathLike[str], found: str, expected: str) -> NoReturn:
    raise IdxError(f"{os.fspath(path)}: found {found}; expected {expected}.")


def _read(path: Path, kind: _Kind) -> Bytes:
    with _opened(path) as source:
        items = np.empty(_read_header(source, path, kind), np.uint8)
        n = len(items)
        size = _fill(source, items.reshape(-1).data)
        if size < items.size:
            _refuse(
                path,
                f"{size:,} bytes after the header",
                f"{items.size:,} for the {n:,} {kind.items} that the header announces",
            )
        if source.read(1):
            _refuse(
                path,
                f"more bytes after the {n:,} {kind.items} that the header announces",
                f"{kind.header_size + items.size:,} bytes in all",
            )
    return items


def is_folder(path: Path) -> bool:
    """Whether there is a folder of that name; IdxError if the system cannot tell."""
    mode = _mode(path, missing=0)
    return stat.S_ISDIR(mode)


def exists(path: Path) -> bool:
    """Whether there is such a file, or a link of that name; IdxError if the system cannot tell."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return True


def _mode(path: Path, missing: int | None = None) -> int:
    """The file's type and rights; the first call with a path, which may be no possible name."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        if missing is not None and isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return missing
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError | ValueError) -> IdxError:
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    return IdxError(f"{path}: cannot be read: {reason}.")


@contextmanager
def _opened(path: Path) -> Iterator[_Source]:
    mode = _mode(path)
    if not stat.S_ISREG(mode):
        _refuse(path, "a folder" if stat.S_ISDIR(mode) else "no regular file", "an IDX file")
    try:
        with path.open("rb") as file:
            start = file.read(4)
            file.seek(0)
            if path.suffix == ".gz":
                _check_gzip(start, path)
                yield _Gunzip(file, path)
            else:
                yield file
    except OSError as error:
        raise _unreadable(path, error) from error


def _check_gzip(start: bytes, path: Path) -> None:
    if not start.startswith(GZIP_MAGIC):
        advice = f"; if it is already unpacked, call it {path.stem}" if start[:2] == b"\0\0" else ""
        _refuse(path, _hex(start), f"gzip, which starts with {GZIP_MAGIC.hex(' ')}{advice}")


def _read_header(source: _Source, path: Path, kind: _Kind) -> tuple[int, ...]:
    """The number of items and their shape."""
    header = bytearray(kind.header_size)
    size = _fill(source, memoryview(header))
    if size >= 4:
        _check_magic(bytes(header[:4]), path, kind)
    if size < len(header):
        _refuse(path, f"{size} bytes", f"a header of {len(header)} bytes and {kind.items}")
    n, *item_shape = struct.unpack(f">{kind.rank}I", header[4:])
    most = MAX_ITEMS
    if kind.any_shape:
        if not all(1 <= extent <= MAX_SIDE for extent in item_shape):
            sides = f"1 to {MAX_SIDE:,} pixels a side"
            _refuse(path, f"{kind.items} of {_times(item_shape)} pixels", sides)
        most = MAX_PIXELS // (math.prod(item_shape) if item_shape else IMAGE_SIZE**2)
    elif tuple(item_shape) != kind.item_shape:
        _refuse(path, f"{kind.items} of {_times(item_shape)} pixels", _times(kind.item_shape))
    if not 1 <= n <= most:
        _refuse(path, f"{n:,} {kind.items} in the header", f"1 to {most:,}")
    return (n, *item_shape)


def _check_magic(start: bytes, path: Path, kind: _Kind) -> None:
    magic = int.from_bytes(start, "big")
    if magic == kind.magic:
        return
    expected = f"{kind.magic} ({_contents(TYPES[0x08], kind.rank)}), the magic number of IDX"
    expected += f" {kind.items}"
    if start.startswith(GZIP_MAGIC):
        _refuse(path, "a gzip'd file", f"{expected}; if it is gzip'd IDX, call it {path.name}.gz")
    zeros, element, rank = start[:2], start[2], start[3]
    if zeros == b"\0\0" and element in TYPES:
        _refuse(path, f"magic number {magic} ({_contents(TYPES[element], rank)})", expected)
    _refuse(path, _hex(start), expected)


def _contents(element: str, rank: int) -> str:
    return f"{element}, {rank} {'axis' if rank == 1 else 'axes'}"


def _times(shape: list[int] | tuple[int, ...]) -> str:
    return " x ".join(f"{extent:,}" for extent in shape)


def _hex(start: bytes) -> str:
    return f"the first bytes {start.hex(' ')}" if start else "an empty file"


def _fill(source: _Source, target: memoryview) -> int:
    """Read until the target is full or the source ends; the number of bytes read."""
    size = 0
    while size < len(target):
        piece = source.read(min(PIECE, len(target) - size))
        if not piece:
            break
        target[size : size + len(piece)] = piece
        size += len(piece)
    return size
