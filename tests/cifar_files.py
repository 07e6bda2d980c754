"""Makes CIFAR-10's binary files by hand, from the format's definition, for the tests of data."""

import io
import tarfile

import numpy as np

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FILES = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]


def contents(records, seed=0):
    """{name: bytes} of all files, and {name: (images, labels)} of what they hold."""
    rng, files, held = np.random.default_rng(seed), {}, {}
    for name in FILES:
        images = rng.integers(0, 256, (records, 32, 32, 3), dtype=np.uint8)
        labels = rng.integers(0, 10, records).astype(np.uint8)
        images[..., 0] = labels[:, None, None] * 25  # learnable
        planes = images.transpose(0, 3, 1, 2).reshape(records, -1)
        files[name] = np.concatenate([labels[:, None], planes], axis=1).tobytes()
        held[name] = images, labels
    files["batches.meta.txt"] = ("\n".join(NAMES) + "\n\n").encode()
    return files, held


def write_folder(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_archive(path, files):
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path
