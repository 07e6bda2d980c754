"""MNIST as it is in the package, folders of its shape, and the lecture's data object."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
from idx_files import idx_bytes, write_folder

import pycnn
from pycnn import datasets
from pycnn.datasets import mnist

SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize("name", SHA256)
def test_the_embedded_files_are_the_originals(name):
    packed = (mnist.EMBEDDED / f"{name}.gz").read_bytes()
    assert hashlib.md5(packed, usedforsecurity=False).hexdigest() == MD5[name]
    assert hashlib.sha256(gzip.decompress(packed)).hexdigest() == SHA256[name]


def test_the_licence_lies_beside_the_data():
    text = (mnist.EMBEDDED / "LICENSE").read_text()
    for words in ("CC BY-SA 3.0", "Yann LeCun", "Corinna Cortes", *MD5.values(), *SHA256.values()):
        assert words in text


def test_load_mnist():
    data = datasets.load_mnist()
    assert (len(data.train), len(data.validation), len(data.test)) == (55_000, 5_000, 10_000)
    for split in (data.train, data.validation, data.test):
        assert split.images.dtype == split.labels.dtype == np.uint8
        assert split.images.shape == (len(split), 28, 28, 1)
        assert split.labels.shape == (len(split),)
        assert split.images.flags.c_contiguous
    assert data.validation.labels[:5].tolist() == [5, 0, 4, 1, 9]
    labels = np.concatenate([data.validation.labels, data.train.labels])
    assert np.bincount(labels).tolist() == TRAIN_COUNTS
    assert np.bincount(data.test.labels).tolist() == TEST_COUNTS


@pytest.mark.parametrize("compress", [True, False], ids=["gz", "plain"])
def test_any_folder_of_that_shape(tmp_path, compress):
    write_folder(tmp_path, train=40, test=20, compress=compress)
    data = datasets.load_mnist(tmp_path, validation_size=10)
    assert (len(data.train), len(data.validation), len(data.test)) == (30, 10, 20)
    assert data.train.labels.tolist() == [i % 10 for i in range(10, 40)]
    everything = datasets.load_mnist(str(tmp_path), validation_size=0)
    assert len(everything.validation) == 0
    np.testing.assert_array_equal(everything.train.images[10:], data.train.images)


@pytest.mark.parametrize(
    ("size", "error", "words"),
    [
        (-1, ValueError, "validation_size is -1; expected 0 or more"),
        (40, ValueError, "validation_size is 40; expected 0 to 39"),
        (2.5, TypeError, "validation_size is 2.5; expected a whole number"),
        (True, TypeError, "validation_size is True"),
    ],
)
def test_a_bad_validation_size(tmp_path, size, error, words):
    write_folder(tmp_path)
    with pytest.raises(error, match=words):
        datasets.load_mnist(tmp_path, validation_size=size)


def test_files_that_do_not_belong_together(tmp_path):
    write_folder(tmp_path, compress=False)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(19)))
    with pytest.raises(datasets.IdxError, match=r"t10k-labels.*found 19 labels; .* 20 images"):
        datasets.load_mnist(tmp_path, 0)
    labels = np.zeros(20)
    labels[7] = 10
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    with pytest.raises(
        datasets.IdxError, match=r"t10k-labels.*label 10 at position 7; expected 0 to 9"
    ):
        datasets.load_mnist(tmp_path, 0)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(datasets.IdxError, match=r"neither t10k-labels-idx1-ubyte.gz nor"):
        datasets.load_mnist(tmp_path, 0)


def test_a_folder_that_may_not_be_searched_is_told(tmp_path, monkeypatch):
    write_folder(tmp_path, train=20, test=20)
    name, real = tmp_path / "train-images-idx3-ubyte.gz", Path.lstat

    def lstat(path):
        if path == name:
            raise PermissionError(13, "Permission denied")
        return real(path)

    assert len(datasets.load_mnist(tmp_path, 0).train) == 20
    monkeypatch.setattr(Path, "lstat", lstat)
    with pytest.raises(datasets.IdxError, match=f"^{name}: cannot be read: Permission denied\\.$"):
        datasets.load_mnist(tmp_path, 0)


def test_gather_matches_the_formula():
    images = datasets.load_mnist().test.images
    which = np.array([9_999, 0, 17, 17])
    x = pycnn.ops.gather_images(images, which)
    assert x.shape == (4, 28, 28, 1)
    np.testing.assert_array_equal(x, images[which].astype(np.float32) * np.float32(1 / 255))


def test_read_data_sets_is_the_lectures_object(tmp_path):
    write_folder(tmp_path, train=5040, test=20)
    data = datasets.read_data_sets(tmp_path, one_hot=True)
    sizes = (data.train.num_examples, data.validation.num_examples, data.test.num_examples)
    assert sizes == (40, 5000, 20)
    assert data.train.images.shape == (40, 784)
    assert data.train.images.dtype == data.train.labels.dtype == np.float32
    assert data.train.images.min() >= 0.0
    assert 0.5 < data.train.images.max() <= 1.0
    assert data.train.labels.shape == (40, 10)
    np.testing.assert_array_equal(data.train.labels.sum(axis=1), 1)
    plain = datasets.read_data_sets(tmp_path)
    assert plain.train.labels.dtype == np.uint8
    np.testing.assert_array_equal(plain.train.labels, data.train.labels.argmax(axis=1))


def test_next_batch_visits_every_image_once_an_epoch(tmp_path):
    write_folder(tmp_path, train=5040, test=20)
    train = datasets.read_data_sets(tmp_path).train
    position = {image.tobytes(): i for i, image in enumerate(train.images)}
    assert len(position) == 40
    seen = []
    for _ in range(5):  # 80 images: two epochs, the third batch wraps
        images, labels = train.next_batch(16)
        where = [position[image.tobytes()] for image in images]
        np.testing.assert_array_equal(labels, train.labels[where])
        seen += where
    assert sorted(seen[:40]) == sorted(seen[40:]) == list(range(40))
    assert seen[:40] != seen[40:]
    assert seen[:40] != list(range(40))


def test_next_batch_is_seeded(tmp_path):
    write_folder(tmp_path, train=5040, test=20)

    def first(seed):
        return datasets.read_data_sets(tmp_path, seed=seed).train.next_batch(20)[0]

    np.testing.assert_array_equal(first(1), first(1))
    assert not np.array_equal(first(1), first(2))


def test_next_batch_without_shuffle_walks_in_stored_order(tmp_path):
    write_folder(tmp_path, train=5040, test=20)
    train = datasets.read_data_sets(tmp_path).train
    position = {image.tobytes(): i for i, image in enumerate(train.images)}
    seen = []
    for _ in range(5):  # 80 images: two epochs, the third batch wraps
        images, labels = train.next_batch(16, shuffle=False)
        where = [position[image.tobytes()] for image in images]
        np.testing.assert_array_equal(labels, train.labels[where])
        seen += where
    assert seen == [*range(40), *range(40)]
    assert train.epochs_completed == 1


def test_shuffle_counts_where_an_epoch_begins(tmp_path):
    """TensorFlow's rule: a call looks at its own shuffle alone, and only there."""
    write_folder(tmp_path, train=5040, test=20)

    def halves(*shuffles):
        train = datasets.read_data_sets(tmp_path, seed=5).train
        position = {image.tobytes(): i for i, image in enumerate(train.images)}
        batches = [train.next_batch(20, shuffle=shuffle)[0] for shuffle in shuffles]
        return [position[image.tobytes()] for image in np.concatenate(batches)]

    stored, shuffled = list(range(40)), halves(True, True)
    assert sorted(shuffled) == stored != shuffled
    assert halves(True, False) == shuffled
    assert halves(False, True) == stored
    assert halves(True, True, False, False) == 2 * shuffled
    later = halves(False, False, True, False)
    assert later[:40] == stored
    assert sorted(later[40:]) == stored != later[40:]


@pytest.mark.parametrize("shuffle", [None, 1, "no"])
def test_next_batch_refuses_another_shuffle(tmp_path, shuffle):
    write_folder(tmp_path, train=5040, test=20)
    with pytest.raises(TypeError, match=r"next_batch: shuffle is .*; expected True or False"):
        datasets.read_data_sets(tmp_path).train.next_batch(4, shuffle=shuffle)


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (41, ValueError), (1.0, TypeError)])
def test_next_batch_refuses(tmp_path, size, error):
    write_folder(tmp_path, train=5040, test=20)
    with pytest.raises(error, match="batch_size is"):
        datasets.read_data_sets(tmp_path).train.next_batch(size)


def test_a_missing_folder_or_file_is_named(tmp_path):
    with pytest.raises(datasets.IdxError, match=r"MNIST_data: found no folder .* no data_dir"):
        datasets.read_data_sets(tmp_path / "MNIST_data")
    with pytest.raises(
        datasets.IdxError,
        match=r"found neither train-images-idx3-ubyte.gz nor train-images-idx3-ubyte;",
    ):
        datasets.load_mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").mkdir()
    write_folder(tmp_path)
    datasets.load_mnist(tmp_path, 0)  # the .gz beside the folder is taken
    (tmp_path / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(datasets.IdxError, match=r"train-images-idx3-ubyte: found a folder"):
        datasets.load_mnist(tmp_path, 0)


def test_gzip_wins_over_plain(tmp_path):
    write_folder(tmp_path, seed=1)
    packed = datasets.load_mnist(tmp_path, 0).train.images
    write_folder(tmp_path, seed=2, compress=False)
    np.testing.assert_array_equal(datasets.load_mnist(tmp_path, 0).train.images, packed)


def test_floats_are_those_of_gather_images(tmp_path):
    write_folder(tmp_path)
    bytes_ = datasets.load_mnist(tmp_path, 10).train.images
    train = datasets.read_data_sets(tmp_path, validation_size=10).train
    x = pycnn.ops.gather_images(bytes_, np.arange(30)).reshape(30, 784)
    np.testing.assert_array_equal(train.images, x)
    images, _ = train.next_batch(30)
    position = {image.tobytes(): i for i, image in enumerate(x)}
    assert sorted(position[image.tobytes()] for image in images) == list(range(30))
    with pytest.raises(ValueError, match="read-only"):
        train.images[0, 0] = 1.0
    assert pycnn.ops.relu(train.images).shape == (30, 784)  # read-only input is fine


def test_one_hot_batches_and_epochs_completed(tmp_path):
    write_folder(tmp_path)
    train = datasets.read_data_sets(tmp_path, one_hot=True, validation_size=0).train
    _, labels = train.next_batch(40)
    assert labels.dtype == np.float32
    np.testing.assert_array_equal(labels.sum(axis=0), np.full(10, 4.0))
    assert train.epochs_completed == 0  # as TensorFlow: an epoch ends when the next batch begins
    train.next_batch(1)
    assert train.epochs_completed == 1


def test_the_three_sets_have_orders_of_their_own(tmp_path):
    write_folder(tmp_path, train=40, test=20)
    data = datasets.read_data_sets(tmp_path, validation_size=20)
    validation, test = data.validation.next_batch(20)[1], data.test.next_batch(20)[1]
    assert sorted(validation) == sorted(test)
    assert validation.tolist() != test.tolist()


def test_an_empty_set_has_no_batch(tmp_path):
    write_folder(tmp_path)
    validation = datasets.read_data_sets(tmp_path, validation_size=0).validation
    assert validation.images.shape == (0, 784)
    with pytest.raises(ValueError, match="this set is empty; expected a validation_size above 0"):
        validation.next_batch(1)


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_a_bad_seed(tmp_path, seed, error):
    with pytest.raises(error, match="read_data_sets: seed is"):
        datasets.read_data_sets(tmp_path, seed=seed)
