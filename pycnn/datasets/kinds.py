"""`load_folder`: a data set of any kind that pycnn reads, told by what is in its folder."""

from __future__ import annotations

import os

from pycnn._formats.files import FileError, file_path
from pycnn.datasets import cifar, folder, idx
from pycnn.datasets.mnist import Splits, load_idx


def load_folder(
    path: str | os.PathLike[str],
    validation_size: int = 5000,
    size: int | tuple[int, int] | None = None,
) -> Splits:
    """`load_idx`, `load_cifar10` or `load_image_folder`, whichever knows the files in the folder.

    path: a folder, or CIFAR-10's archive; size: to which pictures are scaled, for folders of them
    alone. Raises what these raise, and FileError for a folder that holds none of the three.
    """
    root = file_path(path)
    if not idx.is_folder(root):
        kind = "cifar"
    else:
        names = {p.name for p in folder.listed(root)}
        if any(name.removesuffix(".gz").endswith("-ubyte") for name in names):
            kind = "idx"
        elif names & {*cifar.FILES, *cifar.PICKLED}:
            kind = "cifar"
        elif any((root / name).is_dir() for name in names):
            return folder.load_image_folder(root, size, validation_size)
        else:
            raise FileError(
                f"{path}: found no data set that pycnn knows; expected IDX files "
                "(train-images-idx3-ubyte and others), CIFAR-10's binary version "
                "(data_batch_1.bin and others), or pictures (train/CLASS/NAME.png)."
            )
    if size is not None:
        raise ValueError(
            "size scales the pictures of a folder of classes, and these are images in "
            f"{'IDX' if kind == 'idx' else 'CIFAR-10'} files; leave it out."
        )
    return (load_idx if kind == "idx" else cifar.load_cifar10)(root, validation_size)
