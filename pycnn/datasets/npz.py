"""`load_npz`: a data set in one of NumPy's .npz files."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from pycnn._formats.files import FileError
from pycnn.datasets.mnist import Split, Splits, check_validation_size
from pycnn.ops.arrays import Array, are_bytes_as_floats

# Names of (training, test) arrays; "x_train" is Keras' mnist.npz.
NAMES = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("images", "labels", "", ""),
)


def load_npz(path: str | os.PathLike[str], validation_size: int = 0) -> Splits:
    """A data set from an .npz file, as `np.savez(path, images=..., labels=...)` writes it.

    The file holds images and labels (all of them become `.train`, and `.test` is empty), or
    x_train, y_train, x_test and y_test, or train_images, train_labels, test_images and test_labels.
    Images: uint8 0 .. 255, or floats 0 .. 1, which become float32; [n, H, W], which becomes
    [n, H, W, 1], or [n, H, W, C]; floats that are all whole numbers, some above 2, are refused as
    bytes that were cast. Labels: whole numbers from 0, [n] or [n, 1]; they become int64,
    or stay uint8. An array class_names of strings, one for each label from 0 on, names the
    classes. validation_size: the first so many training images become `.validation`.

    No code is ever loaded from the file. Raises FileError for a file that is missing, damaged, or
    holds something else; TypeError or ValueError for a validation_size that leaves no training
    image.
    """
    size = check_validation_size("load_npz", validation_size)
    arrays = _read(Path(path))
    images, labels, test_images, test_labels = _names(path, arrays)
    train = _split(path, arrays, images, labels)
    if size >= max(len(train), 1):
        raise ValueError(
            f"load_npz: validation_size is {size:,}; expected 0 to {len(train) - 1:,}, less than "
            f"the {len(train):,} training images in {path}."
        )
    test = _split(path, arrays, test_images, test_labels) if test_images else _part(train, 0, 0)
    if test.images.shape[1:] != train.images.shape[1:]:
        _refuse(
            path,
            f"{test_images} are {list(test.images.shape[1:])}, {images} "
            f"{list(train.images.shape[1:])}; expected one size of images",
        )
    return Splits(_part(train, size, len(train)), _part(train, 0, size), test)


def _part(split: Split, start: int, stop: int) -> Split:
    return Split(split.images[start:stop], split.labels[start:stop], split.class_names)


def _read(path: Path) -> dict[str, Array]:
    if path.is_dir():
        _refuse(path, "this is a folder; expected an .npz file")
    try:
        content = path.read_bytes()
    except OSError as error:
        _refuse(path, f"cannot read: {error.strerror or error}")
    if content.startswith(b"\x93NUMPY"):
        _refuse(path, "this is a single array; expected an .npz file: write np.savez")
    if not content.startswith(b"PK"):  # the start of a zip file
        _refuse(path, "this is no .npz file; expected what np.savez wrote")
    arrays: dict[str, Array] = {}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays.update((name, file[name]) for name in file.files)
    except Exception as error:  # of zipfile, zlib or NumPy, which have no common class
        kind = "it holds Python objects" if "allow_pickle=False" in str(error) else "it is damaged"
        _refuse(path, f"{kind}; expected arrays of numbers that np.savez wrote")
    return arrays


def _names(path: Any, arrays: Mapping[str, Array]) -> tuple[str, str, str, str]:
    names = next((n for n in NAMES if all(name in arrays for name in n if name)), None)
    if names is None:
        _refuse(
            path,
            f"it holds {', '.join(sorted(arrays)) or 'nothing'}; expected images and labels, or "
            "x_train, y_train, x_test and y_test",
        )
    return names


def _split(path: Any, arrays: Mapping[str, Array], images: str, labels: str) -> Split:
    x, y = arrays[images], arrays[labels]
    if x.ndim not in (3, 4) or (x.dtype != np.uint8 and x.dtype.kind != "f"):
        _refuse(
            path,
            f"{images} is {x.dtype} of shape {x.shape}; expected uint8 or floats, [n, H, W] or "
            "[n, H, W, C]",
        )
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.dtype.kind not in "iu":
        one_hot = y.ndim == 2 and y.shape[1] > 1
        advice = f": for one-hot rows save {labels}.argmax(axis=1)" if one_hot else ""
        _refuse(
            path, f"{labels} is {y.dtype} of shape {y.shape}; expected whole numbers [n]{advice}"
        )
    if len(x) != len(y):
        _refuse(path, f"found {len(y):,} {labels}; expected one for each of {len(x):,} {images}")
    if y.size and (int(y.min()) < 0 or int(y.max()) >= 2**31):
        _refuse(path, f"{labels} go from {y.min()} to {y.max()}; expected 0 to 2**31 - 1")
    if x.dtype != np.uint8:
        x = x.astype(np.float32, copy=False)
        if not np.isfinite(x).all():
            _refuse(path, f"{images} holds NaN or Inf; expected numbers from 0 to 1")
        if are_bytes_as_floats(x):
            _refuse(
                path,
                f"{images} are floats, all whole numbers up to {x[:1000].max():g}; expected 0 to "
                "1: save images.astype(np.uint8), or images / 255",
            )
    x = np.ascontiguousarray(x if x.ndim == 4 else x[..., None])
    y = y if y.dtype == np.uint8 else y.astype(np.int64)
    found = arrays.get("class_names")
    try:
        return Split(x, y, None if found is None else found.tolist())
    except (TypeError, ValueError) as error:
        _refuse(path, str(error).removeprefix("Split: ").rstrip("."))


def _refuse(path: Any, why: str) -> NoReturn:
    raise FileError(f"{path}: {why}.") from None
