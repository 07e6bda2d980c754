"""`load_cifar10`: the binary version of CIFAR-10, from its folder or its archive, as bytes.

A file is records of 3073 bytes, 10,000 of them: the label, 0 to 9, then 32 x 32 bytes of red, of
green and of blue, row by row. Nothing announces their number, so it has to be exactly that.

Source of the format: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".
"""

from __future__ import annotations

import os
import tarfile
import zlib
from pathlib import Path
from typing import NoReturn

import numpy as np

from pycnn._formats.files import LARGEST_TEXT, FileError, file_path, read_small
from pycnn.datasets.mnist import Split, Splits, check_validation_size

SIDE, CLASSES = 32, 10
RECORD = 1 + 3 * SIDE * SIDE
RECORDS = 10_000  # a file
TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST, NAMES = "test_batch.bin", "batches.meta.txt"
FILES = (*TRAIN, TEST, NAMES)
PICKLED = ("data_batch_1", "test_batch", "batches.meta")
WHY_NOT = (
    "the pickled version for Python, which is refused: unpickling runs whatever code a file holds; "
    "expected the binary version, cifar-10-binary.tar.gz"
)


def load_cifar10(folder: str | os.PathLike[str], validation_size: int = 5000) -> Splits:
    """CIFAR-10 with `.train`, `.validation` and `.test`: uint8 images [n, 32, 32, 3], RGB.

    folder: with data_batch_1.bin to data_batch_5.bin, test_batch.bin and batches.meta.txt, as
    cifar-10-binary.tar.gz holds them; or that archive itself, unpacked in memory only. The names of
    the classes come from batches.meta.txt. validation_size: the first so many of the 50,000
    training images are the validation set; 0 leaves it empty.

    Raises FileError for a file that is missing or not exactly right, and for the pickled version,
    since unpickling runs code; ValueError for a validation_size that leaves no training image;
    TypeError for one that is no int.
    """
    size = check_validation_size("load_cifar10", validation_size)
    path = file_path(folder)
    found = _folder(path) if path.is_dir() else _archive(path)
    missing = [name for name in FILES if name not in found]
    if missing:
        _refuse(path, f"found no {missing[0]}", f"{', '.join(FILES)}")
    names = _names(path / NAMES, found[NAMES])
    parts = [_records(path / name, found[name]) for name in TRAIN]
    test = _records(path / TEST, found[TEST])
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    if size >= len(images):
        raise ValueError(
            f"load_cifar10: validation_size is {size:,}; expected 0 to {len(images) - 1:,}, less "
            f"than the {len(images):,} training images in {path}."
        )
    return Splits(
        train=Split(images[size:], labels[size:], names),
        validation=Split(images[:size], labels[:size], names),
        test=Split(*test, names),
    )


def _folder(path: Path) -> dict[str, bytes]:
    """The files by name, one byte more of those that are too long."""
    found = {}
    for name in FILES:
        try:
            found[name] = read_small(path / name, "a file of CIFAR-10", _most(name) + 1)
        except FileNotFoundError:
            continue
        except FileError:
            raise
        except OSError as error:
            raise FileError(f"{path / name}: cannot be read: {error.strerror or error}.") from error
    if TRAIN[0] not in found and any((path / name).exists() for name in PICKLED):
        raise FileError(f"{path}: found {WHY_NOT}, unpacked.")
    return found


def _archive(path: Path) -> dict[str, bytes]:
    """The same of a .tar.gz, read once from its beginning to its end."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                name = Path(member.name).name
                if name in PICKLED:
                    raise FileError(f"{path}: found {WHY_NOT}.")
                file = archive.extractfile(member) if name in FILES else None
                if file is not None:
                    found[name] = file.read(_most(name) + 1)
    except FileError:
        raise
    except FileNotFoundError as error:
        raise FileError(
            f"{path}: there is no such folder or archive; expected CIFAR-10's binary version, "
            "cifar-10-binary.tar.gz, or the folder in it."
        ) from error
    except (tarfile.TarError, zlib.error, EOFError) as error:
        _refuse(path, f"no whole .tar.gz ({error})", "cifar-10-binary.tar.gz, or its folder")
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}.") from error
    return found


def _most(name: str) -> int:
    return LARGEST_TEXT if name == NAMES else RECORDS * RECORD


def _records(path: Path, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """(images, labels) of one file."""
    if len(content) != RECORDS * RECORD:
        _refuse(
            path,
            f"{len(content):,} bytes" if len(content) < RECORDS * RECORD else "more bytes",
            f"{RECORDS * RECORD:,}, {RECORDS:,} images of {RECORD:,} bytes each",
        )
    rows = np.frombuffer(content, np.uint8).reshape(RECORDS, RECORD)
    labels = rows[:, 0].copy()
    if labels.max() >= CLASSES:
        at = int(np.argmax(labels >= CLASSES))
        _refuse(path, f"label {labels[at]} at image {at:,}", f"0 to {CLASSES - 1}")
    planes = rows[:, 1:].reshape(RECORDS, 3, SIDE, SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def _names(path: Path, content: bytes) -> tuple[str, ...]:
    try:
        names = tuple(line.strip() for line in content.decode().splitlines() if line.strip())
        Split(np.empty((0, SIDE, SIDE, 3), np.uint8), np.empty(0, np.uint8), names)
    except ValueError as error:
        why = "bytes that are no text" if isinstance(error, UnicodeDecodeError) else str(error)
        _refuse(path, why.removeprefix("Split: ").rstrip("."), "one name of a class a line")
    if len(names) != CLASSES:
        _refuse(path, f"{len(names)} names", f"{CLASSES}, one of a class a line")
    return names


def _refuse(path: Path, found: str, expected: str) -> NoReturn:
    found = found if found.startswith("found") else f"found {found}"
    raise FileError(f"{path}: {found}; expected {expected}.")
