"""Files that are written whole or not at all, and arrays in the safetensors format.

The library `safetensors` writes and checks the format; no code is ever loaded from a file. It is
imported at its first use, so that `import pycnn` stays fast.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeAlias

import numpy as np

from pycnn._formats.temporary import remove_leftovers, temporary_name
from pycnn.ops.arrays import Array, kind_of

FilePath: TypeAlias = str | os.PathLike[str]

KEY = "pycnn"  # the one entry of the file's metadata: several would have no certain order
LONGEST_HEADER = 100_000_000  # bytes, the format's limit; some versions of safetensors pass it
CHECKSUM = "checksum"  # an entry of what stands under KEY
LARGEST_TEXT = 1_000_000  # bytes of a file of settings


class FileError(OSError):
    """A file that cannot be read or written, or that holds something else; says which and why."""


def write_safetensors(
    path: FilePath, tensors: Mapping[str, Array], metadata: Mapping[str, Any]
) -> None:
    """Write arrays and what describes them, so that `path` holds all of it or what it held before.

    metadata: what JSON can hold, without NaN and Inf; keys are sorted. A checksum of all of it goes
    into the file. The same arrays and metadata
    give the same bytes in every process. The bytes go to a temporary file in the same folder, to
    the disk (fsync), then under the name, and the folder to the disk.

    Raises FileError if the disk is full, or the folder is missing or read-only: the old file is
    then unchanged. TypeError or ValueError for what the format cannot hold, or is no path.
    """
    file_path(path)
    content = _encoded(tensors, metadata)
    with replacing(path) as file:
        file.write(content)


def read_safetensors(path: FilePath) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays of a file by name, and the metadata that `write_safetensors` was given.

    Any safetensors file of numbers that NumPy has is read; the metadata of one that pycnn did not
    write is empty. NaN and Inf are numbers here. The arrays are the caller's own. Raises FileError
    for a file that is missing, cut short, too long, or not of this format, or whose checksum, if it
    has one, is another; TypeError for what is no path.
    """
    path = file_path(path)
    with _reading(path):
        from safetensors import safe_open

        with safe_open(path, framework="np") as file:
            metadata = _metadata(file.metadata() or {}, path)
            tensors = {name: _tensor(file, name, path) for name in file.keys()}  # noqa: SIM118
    expected = metadata.pop(CHECKSUM, None)  # files of the first versions have none
    if expected is not None and expected != _checksum(tensors, metadata):
        _refuse(path, "its content does not have its checksum, so it is damaged")
    return tensors, metadata


@contextlib.contextmanager
def replacing(path: FilePath) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` at the end if nothing was raised.

    OSError becomes FileError; whatever is raised, the old file stays and no other is left. What a
    process that was killed has left in this folder is removed.
    """
    target = real_path(path)
    try:
        mode = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = stat.S_IFREG
    except OSError as error:
        raise FileError(f"{path}: cannot write: {error.strerror or error}.") from error
    if stat.S_ISDIR(mode):
        raise FileError(f"{path}: cannot write: this is a folder; expected the name of a file.")
    if not stat.S_ISREG(mode):
        raise FileError(f"{path}: cannot write: this is no regular file.")
    remove_leftovers(target.parent)
    temporary = target.with_name(temporary_name())
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


def file_path(path: object) -> Path:
    """A path as a caller gives it: a str or an os.PathLike of one; else a sentence."""
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(name, str):
        advice = "os.fsdecode(path)" if isinstance(name, bytes) else 'Path("model.safetensors")'
        raise TypeError(
            f"path is {_short(path)}; expected the name of a file, a str or a pathlib.Path: write "
            f"{advice}, say."
        )
    if "\0" in name:
        raise FileError(f"{name!r}: no file has this name; expected one without '\\0'.")
    return Path(name)


def real_path(path: FilePath) -> Path:
    """The whole name of what will be written, so that a link stays a link; or FileError."""
    try:
        return Path(os.path.realpath(file_path(path)))
    except FileNotFoundError as error:  # of getcwd
        raise FileError(
            f"{path}: cannot write: the working directory was deleted; expected one that is there, "
            "or a name from / on: type cd and the name of a folder."
        ) from error


def read_small(path: FilePath, what: str, most: int = LARGEST_TEXT) -> bytes:
    """All bytes of a regular file; OSError, and FileError for one that is longer than `most`."""
    found = file_path(path)
    mode = found.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # open has a sentence for a folder
        raise FileError(f"{path}: this is no regular file; expected {what}.")
    with open(found, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise FileError(f"{path}: this is longer than {most:,} bytes; expected {what}.")
    return content


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
    if error.errno == errno.ENOENT and target.parent.is_dir():  # in /proc, say
        reason = f"the folder {target.parent} takes no new files ({reason})"
    elif error.errno in (errno.ENOENT, errno.ENOTDIR):
        reason = f"there is no folder {target.parent}; make it first"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        reason = f"the disk is full, or a limit of the size of files was reached ({reason})"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason = f"the folder {target.parent} is not writable ({reason})"
    kept = " The file that was there is unchanged." if target.is_file() else ""
    return f"{path}: cannot write: {reason}.{kept}"


def _encoded(tensors: Mapping[str, Array], metadata: Mapping[str, Any]) -> bytes:
    from safetensors import SafetensorError
    from safetensors.numpy import save

    if "__metadata__" in tensors:
        raise ValueError("a tensor is called '__metadata__', a name that the format reserves.")
    if CHECKSUM in metadata:
        raise ValueError(f"metadata has an entry {CHECKSUM!r}, which is written by itself.")
    arrays = {name: _contiguous(name, array) for name, array in tensors.items()}
    try:
        content = save(arrays, {KEY: to_json({**metadata, CHECKSUM: _checksum(arrays, metadata)})})
    except SafetensorError as error:
        raise ValueError(f"the safetensors format cannot hold this: {_line(error)}.") from error
    if int.from_bytes(content[:8], "little") > LONGEST_HEADER:
        raise ValueError("the metadata is longer than 100 MB, the limit of safetensors.")
    return content


def _checksum(tensors: Mapping[str, Array], metadata: Mapping[str, Any]) -> str:
    """Of names, types, shapes, numbers and metadata, by BLAKE2b."""
    digest = hashlib.blake2b(to_json(metadata).encode(), digest_size=16)
    for name, array in sorted(tensors.items()):
        digest.update(to_json([name, array.dtype.str, array.shape]).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _contiguous(name: str, array: Array) -> Array:
    """In C order, which `save` takes for granted, and little-endian, as in the file."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"tensor {name!r} is {kind_of(array)}; expected a NumPy array.")
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(f"tensor {name!r} is {array.dtype}; safetensors has no such type.")
    return np.asarray(array, array.dtype.newbyteorder("<"), order="C")


def to_json(value: Any) -> str:
    """Sorted, compact JSON: one text for one value. ValueError for NaN and Inf."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise ValueError(f"metadata: {error}; expected finite numbers, or None for none.") from None


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Make one sentence of what is wrong with `path`, before and while the library reads it."""
    from safetensors import SafetensorError

    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise FileError(f"{path}: this is a folder; expected a safetensors file.")
        if not stat.S_ISREG(found.st_mode):
            raise FileError(f"{path}: this is no regular file; expected a safetensors file.")
        with open(path, "rb"):  # the library tells no other fault of the system from a missing file
            pass
        if found.st_size == 0:
            _refuse(path, "the file is empty")
        yield
    except FileError:
        raise
    except SafetensorError as error:
        what = f"its {found.st_size:,} bytes are cut short, damaged, or another kind of file"
        _refuse(path, f"{what} ({_line(error)})")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(f"{path}: cannot read: {reason}.") from error


def _metadata(entries: Mapping[str, str], path: Path) -> dict[str, Any]:
    if KEY not in entries:
        return {}
    try:
        metadata = json.loads(entries[KEY])
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        _refuse(path, f"its metadata {KEY!r} is no JSON object: damaged")
    return metadata


def _tensor(file: Any, name: str, path: Path) -> Array:
    """A copy: what the library gives may be a part of the mapped file in some version."""
    try:
        array: Array = np.array(file.get_tensor(name), order="C")
        known = array.dtype.kind in "biufc"  # another library may have added types to NumPy's
    except (AttributeError, TypeError):  # NumPy's answers to the name of a type
        known = False
    except (ValueError, OverflowError) as error:
        _refuse(path, f"tensor {name!r} is no array that NumPy can hold ({_line(error)})")
    if not known:
        kind = file.get_slice(name).get_dtype()
        _refuse(path, f"tensor {name!r} is {kind!r}, a type that NumPy does not have")
    return array


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else kind_of(value)


def _line(error: Exception) -> str:
    """What a library says, which may quote a damaged file, as a part of a sentence."""
    return " ".join(str(error).split())[:200].rstrip(".")


def _refuse(path: FilePath, found: str) -> NoReturn:
    raise FileError(f"{path}: {found}; expected a whole safetensors file of numbers.")
