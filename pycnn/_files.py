"""Files that are written whole or not at all, in the safetensors format.

The format (github.com/huggingface/safetensors): 8 bytes, the length n of the header, little-endian;
n bytes of JSON, `{"__metadata__": {str: str}, name: {"dtype", "shape", "data_offsets"}}`; then the
numbers, little-endian, in C order, without gaps. No code is ever loaded from a file.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeAlias

import numpy as np

from pycnn._arrays import Array, kind_of

FilePath: TypeAlias = str | os.PathLike[str]

KEY = "pycnn"  # the one entry of __metadata__: several would make the order of bytes a choice
DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2",
    "U32": "<u4", "I32": "<i4", "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip
NAMES = {np.dtype(code): name for name, code in DTYPES.items()}
LONGEST_HEADER = 100_000_000  # bytes, the format's own limit
PREFIX, SUFFIX = ".pycnn-", ".tmp"  # of temporary files


class FileError(OSError):
    """A file that cannot be read or written, or that holds something else; says which and why."""


def write_safetensors(
    path: FilePath, tensors: Mapping[str, Array], metadata: Mapping[str, Any]
) -> None:
    """Write arrays and what describes them, so that `path` holds all of it or what it held before.

    metadata: what JSON can hold, without NaN and Inf; keys are sorted. The same arrays and metadata
    give the same bytes in every process. The bytes go to a temporary file in the same folder, to
    the disk (fsync), then under the name, and the folder to the disk.

    Raises FileError if the disk is full, or the folder is missing or read-only: the old file is
    then unchanged. TypeError or ValueError for what the format cannot hold.
    """
    arrays = {name: _little_endian(name, array) for name, array in tensors.items()}
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))  # stays aligned
    head = _header({name: arrays[name] for name in order}, metadata)
    with replacing(path) as file:
        file.write(head)
        for name in order:
            file.write(arrays[name].reshape(-1).view(np.uint8).data)


def read_safetensors(path: FilePath) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays of a file by name, and the metadata that `write_safetensors` was given.

    Any safetensors file of numbers that NumPy has is read; the metadata of one that pycnn did not
    write is empty. NaN and Inf are numbers here. Raises FileError for a file that is missing, cut
    short, too long, or not of this format.
    """
    path = Path(path)
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        header, start = _read_header(file, path, size)
        metadata = _metadata(header.pop("__metadata__", {}), path)
        places = {name: _place(name, entry, path) for name, entry in header.items()}
        _check_places(places, size - start, path)
        tensors = {}
        for name, (dtype, shape, begin, _) in places.items():
            array = np.empty(shape, dtype)
            file.seek(start + begin)
            if file.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:
                _refuse(path, f"the file ended inside tensor {name!r} while it was read")
            tensors[name] = array
    return tensors, metadata


@contextlib.contextmanager
def replacing(path: FilePath) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` at the end if nothing was raised.

    OSError becomes FileError; whatever is raised, the old file stays and no other is left.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    try:
        mode = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = stat.S_IFREG
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(f"{path}: cannot write: {reason}.") from error
    if stat.S_ISDIR(mode):
        raise FileError(f"{path}: cannot write: this is a folder; expected the name of a file.")
    if not stat.S_ISREG(mode):
        raise FileError(f"{path}: cannot write: this is no regular file.")
    temporary = target.with_name(f"{PREFIX}{secrets.token_hex(6)}{SUFFIX}")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise FileError(_why_not_written(path, target, error)) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def remove_leftovers(folder: FilePath) -> None:
    """Delete temporary files of writers that were killed; only while nobody else writes there."""
    for path in Path(folder).glob(f"{PREFIX}*{SUFFIX}"):
        path.unlink(missing_ok=True)


def check_finite(path: FilePath, tensors: Mapping[str, Array]) -> None:
    """Refuse arrays with NaN or Inf, as a diverged training leaves them: FileError."""
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            _refuse(path, f"tensor {name!r} holds NaN or Inf: the training had diverged")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems have no such sync
            raise
    finally:
        os.close(handle)


def _why_not_written(path: FilePath, target: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        reason = f"there is no folder {target.parent}; make it first"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        reason = f"the disk is full, or a limit of the size of files was reached ({reason})"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason = f"the folder {target.parent} is not writable ({reason})"
    kept = " The file that was there is unchanged." if target.is_file() else ""
    return f"{path}: cannot write: {reason}.{kept}"


def _little_endian(name: str, array: Array) -> Array:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"tensor {name!r} is {kind_of(array)}; expected a NumPy array.")
    dtype = array.dtype.newbyteorder("<")
    if dtype not in NAMES:
        raise TypeError(f"tensor {name!r} is {array.dtype}; safetensors has no such type.")
    return np.asarray(array, dtype, order="C")


def _header(arrays: Mapping[str, Array], metadata: Mapping[str, Any]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {KEY: to_json(metadata)}}
    end = 0
    for name, array in arrays.items():
        if name == "__metadata__":
            raise ValueError("a tensor is called '__metadata__', a name that the format reserves.")
        begin, end = end, end + array.nbytes
        header[name] = {
            "dtype": NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the numbers start at a multiple of 8
    if len(text) > LONGEST_HEADER:
        raise ValueError("the metadata is longer than 100 MB, the limit of safetensors.")
    return len(text).to_bytes(8, "little") + text


def to_json(value: Any) -> str:
    """Sorted, compact JSON: one text for one value. ValueError for NaN and Inf."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise ValueError(f"metadata: {error}; expected finite numbers, or None for none.") from None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise FileError(f"{path}: this is a folder; expected a safetensors file.")
        if not stat.S_ISREG(mode):
            raise FileError(f"{path}: this is no regular file; expected a safetensors file.")
        with open(path, "rb") as file:
            yield file
    except FileError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(f"{path}: cannot read: {reason}.") from error


def _read_header(file: BinaryIO, path: Path, size: int) -> tuple[dict[str, Any], int]:
    """The JSON, and where the numbers start."""
    if size == 0:
        _refuse(path, "the file is empty")
    n = int.from_bytes(file.read(8), "little")
    if size < 8 or file.read(1) not in (b"{", b""):
        _refuse(path, "the file does not begin as safetensors do")
    if n > LONGEST_HEADER or 8 + n > size:
        _refuse(path, f"it has {size:,} bytes, fewer than its header says: cut short or damaged")
    file.seek(8)
    try:
        header = json.loads(file.read(n))
    except (ValueError, RecursionError):
        _refuse(path, "its header is no JSON: damaged, or another kind of file")
    if not isinstance(header, dict):
        _refuse(path, "its header is no JSON object")
    return header, 8 + n


def _metadata(entries: Any, path: Path) -> dict[str, Any]:
    if not isinstance(entries, dict):
        _refuse(path, "its __metadata__ is no JSON object")
    if KEY not in entries:
        return {}
    try:
        metadata = json.loads(entries[KEY])
    except (TypeError, ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        _refuse(path, f"its metadata {KEY!r} is no JSON object: damaged")
    return metadata


Place: TypeAlias = tuple[np.dtype[Any], tuple[int, ...], int, int]  # dtype, shape, begin, end


def _place(name: str, entry: Any, path: Path) -> Place:
    try:
        kind, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = all(type(n) is int and n >= 0 for n in (*shape, begin, end))
    except (TypeError, KeyError, ValueError):
        whole = False
    if not whole:
        _refuse(path, f"its header describes tensor {name!r} in another way than safetensors do")
    if kind not in DTYPES:
        _refuse(path, f"tensor {name!r} is {kind!r}, a type that NumPy does not have")
    dtype = np.dtype(DTYPES[kind])
    if end - begin != math.prod(shape) * dtype.itemsize:
        _refuse(path, f"tensor {name!r} has another number of bytes than its shape {shape} needs")
    return dtype, tuple(shape), begin, end


def _check_places(places: Mapping[str, Place], size: int, path: Path) -> None:
    """The numbers fill the rest of the file, without holes and overlaps."""
    at = 0
    for name, (_, _, begin, end) in sorted(places.items(), key=lambda item: item[1][2:]):
        if begin != at:
            _refuse(path, f"tensor {name!r} does not begin where the one before ends")
        at = end
    if at != size:
        how = "cut short" if size < at else "damaged"
        _refuse(path, f"it has {size:,} bytes of numbers where its header says {at:,}: {how}")


def _refuse(path: FilePath, found: str) -> NoReturn:
    raise FileError(f"{path}: {found}; expected a whole safetensors file of numbers.")
