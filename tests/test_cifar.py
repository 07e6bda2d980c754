"""`load_cifar10`: planes become pixels; a file that is not exactly right is a sentence."""

import numpy as np
import pytest
from cifar_files import FILES, NAMES, contents, write_archive, write_folder

import pycnn
from pycnn import datasets
from pycnn.datasets import cifar

RECORDS = 12


@pytest.fixture
def short(monkeypatch):
    """Files of 12 images instead of 10,000."""
    monkeypatch.setattr(cifar, "RECORDS", RECORDS)
    return contents(RECORDS)


def assert_holds(data, held, size):
    images = np.concatenate([held[name][0] for name in FILES[:5]])
    labels = np.concatenate([held[name][1] for name in FILES[:5]])
    for split, x, y in (
        (data.validation, images[:size], labels[:size]),
        (data.train, images[size:], labels[size:]),
        (data.test, *held[FILES[5]]),
    ):
        np.testing.assert_array_equal(split.images, x)
        np.testing.assert_array_equal(split.labels, y)
        assert split.images.dtype == split.labels.dtype == np.uint8
        assert split.images.flags.c_contiguous
        assert split.class_names == tuple(NAMES)


def test_a_folder_and_an_archive_hold_the_same_images(short, tmp_path):
    files, held = short
    assert_holds(datasets.load_cifar10(write_folder(tmp_path / "bin", files), 7), held, 7)
    archive = write_archive(tmp_path / "cifar-10-binary.tar.gz", files)
    assert_holds(datasets.load_cifar10(str(archive), 0), held, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", archive.name]


def test_whole_files_are_10000_images_each(tmp_path):
    content = bytes(10_000 * 3073)
    files = {**dict.fromkeys(FILES, content), "batches.meta.txt": "\n".join(NAMES).encode()}
    folder = write_folder(tmp_path, {"data_batch_1.bin": content, **files})
    data = datasets.load_cifar10(folder)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [45000, 5000, 10000]


def changed(files, name, change):
    return {**files, name: change(files[name])}


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("data_batch_4.bin", lambda b: b[3073:], r"found 33,803 bytes; expected 36,876, 12 images"),
        ("data_batch_3.bin", lambda b: b[:-1], r"found 36,875 bytes; expected 36,876, 12 images"),
        ("test_batch.bin", lambda b: b + b"\0", r"found more bytes; expected 36,876, 12 images"),
        ("data_batch_2.bin", lambda b: b"", "found 0 bytes; expected 36,876"),
        (
            "test_batch.bin",
            lambda b: b[: 3073 * 2] + b"\n" + b[3073 * 2 + 1 :],
            r"found label 10 at image 2; expected 0 to 9\.$",
        ),
        ("batches.meta.txt", lambda b: b.replace(b"cat\n", b""), "found 9 names; expected 10, one"),
        ("batches.meta.txt", lambda b: b.replace(b"cat", b"dog"), "class_names has 'dog' twice"),
        ("batches.meta.txt", lambda b: b"\xff\xfe", "found bytes that are no text; expected one "),
        (
            "batches.meta.txt",
            lambda b: b + b"boat\n",
            "found 11 names; expected 10, one of a ",
        ),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(short, tmp_path, name, change, words):
    files = changed(short[0], name, change)
    for path in (
        write_folder(tmp_path / "bin", files),
        write_archive(tmp_path / "cifar.tar.gz", files),
    ):
        with pytest.raises(pycnn.FileError, match=words) as found:
            datasets.load_cifar10(path)
        assert str(found.value).startswith(f"{path / name}: ")


@pytest.mark.parametrize("name", ["data_batch_5.bin", "test_batch.bin", "batches.meta.txt"])
def test_a_missing_file_is_named(short, tmp_path, name):
    files = {other: content for other, content in short[0].items() if other != name}
    for path in (write_folder(tmp_path / "bin", files), write_archive(tmp_path / "c.tgz", files)):
        with pytest.raises(pycnn.FileError, match=rf"^{path}: found no {name}; expected data_bat"):
            datasets.load_cifar10(path)


def test_the_pickled_version_is_refused_and_never_loaded(tmp_path):
    evil = dict.fromkeys(("data_batch_1", "test_batch", "batches.meta"), b"cos\nabort\n(tR.")
    words = "found the pickled version for Python, which is refused: unpickling runs whatever code"
    for path in (write_folder(tmp_path / "py", evil), write_archive(tmp_path / "py.tgz", evil)):
        with pytest.raises(pycnn.FileError, match=rf"^{path}: {words}.*binary version, cifar-10-b"):
            datasets.load_cifar10(path)


def test_what_is_no_archive_is_a_sentence(short, tmp_path):
    archive = write_archive(tmp_path / "cifar.tar.gz", short[0])
    whole = archive.read_bytes()
    torn = whole[:2000] + bytes(100) + whole[2100:]
    for content in (whole[: len(whole) // 2], b"", b"no gzip", torn):
        archive.write_bytes(content)
        with pytest.raises(pycnn.FileError, match=r"^.*cifar.tar.gz: found (no whole|no .*bin)"):
            datasets.load_cifar10(archive)
    with pytest.raises(pycnn.FileError, match="there is no such folder or archive; expected CIFAR"):
        datasets.load_cifar10(tmp_path / "none")


def test_a_validation_size_that_fits_nothing_is_refused(short, tmp_path):
    folder = write_folder(tmp_path, short[0])
    with pytest.raises(ValueError, match="size is 60; expected 0 to 59, less than the 60 t"):
        datasets.load_cifar10(folder, 60)
    with pytest.raises(TypeError, match=r"load_cifar10: validation_size is 1\.5; expected a whole"):
        datasets.load_cifar10(folder, 1.5)
