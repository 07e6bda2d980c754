"""Makes IDX files by hand, from the format's definition, for the tests of data and command."""

import gzip
import struct

import numpy as np


def idx_bytes(array, kind=8):
    header = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_folder(folder, train=40, test=20, seed=0, compress=True, size=(28, 28), classes=10):
    """Four small files, by default in the shape of MNIST; images of one class are alike."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    prototypes = rng.integers(0, 256, (classes, *size))
    for name, count in (("train", train), ("t10k", test)):
        labels = np.arange(count) % classes
        images = prototypes[labels] // 2 + rng.integers(0, 128, (count, *size))
        for stem, array in (
            (f"{name}-images-idx3-ubyte", images),
            (f"{name}-labels-idx1-ubyte", labels),
        ):
            content = idx_bytes(array)
            if compress:
                (folder / f"{stem}.gz").write_bytes(gzip.compress(content, mtime=0))
            else:
                (folder / stem).write_bytes(content)
    return folder
