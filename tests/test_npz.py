"""load_npz: the names it knows, the arrays it gives, and a sentence for each other file."""

import numpy as np
import pytest

import pycnn
from pycnn import datasets


def images(n, shape=(4, 5), dtype=np.uint8):
    pixels = np.random.default_rng(n).integers(0, 256, (n, *shape)).astype(np.uint8)
    return pixels if dtype == np.uint8 else (pixels / 255).astype(dtype)


def test_images_and_labels(tmp_path):
    np.savez(tmp_path / "d.npz", images=images(6), labels=np.arange(6, dtype=np.uint8))
    data = datasets.load_npz(tmp_path / "d.npz", validation_size=2)
    assert (len(data.train), len(data.validation), len(data.test)) == (4, 2, 0)
    np.testing.assert_array_equal(data.train.images[..., 0], images(6)[2:])
    assert data.test.images.shape == (0, 4, 5, 1)
    assert data.train.labels.tolist() == [2, 3, 4, 5]
    assert data.train.labels.dtype == np.uint8


@pytest.mark.parametrize("names", datasets.npz.NAMES[:2])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_training_and_test_arrays(tmp_path, names, save):
    arrays = images(6, (3, 3, 3), np.float64), np.arange(6)[:, None], images(2, (3, 3, 3)), [0, 1]
    save(tmp_path / "d.npz", **dict(zip(names, arrays, strict=True)), other=np.zeros(3))
    data = datasets.load_npz(str(tmp_path / "d.npz"))
    assert data.train.images.dtype == np.float32
    assert data.test.images.dtype == np.uint8
    np.testing.assert_array_equal(data.train.images, arrays[0].astype(np.float32))
    np.testing.assert_array_equal(data.test.images, arrays[2])
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == (list(range(6)), [0, 1])
    assert data.train.labels.dtype == data.test.labels.dtype == np.int64
    assert len(data.validation) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3)])
def test_images_of_any_layout_become_contiguous(tmp_path, dtype, shape):
    given = np.asfortranarray(images(3, shape, dtype))
    np.savez(tmp_path / "d.npz", images=given, labels=[0, 1, 2])
    found = datasets.load_npz(tmp_path / "d.npz").train.images
    assert found.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, given.reshape(3, 4, 5, -1).astype(found.dtype))


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.uint64])
def test_labels_become_int64(tmp_path, dtype):
    np.savez(tmp_path / "d.npz", images=images(3), labels=np.array([2, 0, 7], dtype))
    labels = datasets.load_npz(tmp_path / "d.npz").train.labels
    assert labels.dtype == np.int64
    assert labels.tolist() == [2, 0, 7]


BAD = {
    "names": ({"x": images(2)}, "it holds x; expected images and labels, or x_train"),
    "nothing": ({}, "it holds nothing; expected images and labels"),
    "flat": ({"images": images(2, ()), "labels": [0, 1]}, r"images is uint8 of shape \(2,\)"),
    "ints": ({"images": images(2).astype(int), "labels": [0, 1]}, "images is int64 of shape"),
    "one_hot": (
        {"images": images(2), "labels": np.eye(2, dtype=int)},
        r"save labels.argmax\(axis=1",
    ),
    "floats": ({"images": images(2), "labels": [0.0, 1.0]}, "labels is float64 of shape"),
    "fewer": (
        {"images": images(3), "labels": [0, 1]},
        "found 2 labels; expected one for each of 3",
    ),
    "more": (
        {"images": images(2), "labels": [0, 1, 2]},
        "found 3 labels; expected one for each of 2",
    ),
    "negative": ({"images": images(2), "labels": [0, -1]}, "labels go from -1 to 0; expected 0 to"),
    "huge": (
        {"images": images(2), "labels": np.array([0, 2**64 - 1], np.uint64)},
        "labels go from 0 to 18446744073709551615; expected 0 to 2",
    ),
    "nan": ({"images": np.full((1, 2, 2), np.nan), "labels": [0]}, "images holds NaN or Inf"),
    "objects": ({"images": np.array([{}]), "labels": [0]}, "it holds Python objects"),
    "sizes": (
        {"x_train": images(2), "y_train": [0, 1], "x_test": images(1, (9, 9)), "y_test": [0]},
        r"x_test are \[9, 9, 1\], x_train \[4, 5, 1\]; expected one size",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_other_contents_are_told(tmp_path, name):
    arrays, message = BAD[name]
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(pycnn.FileError, match=message) as caught:
        datasets.load_npz(tmp_path / "d.npz")
    assert str(caught.value).startswith(str(tmp_path / "d.npz"))


def test_other_files_are_told(tmp_path):
    path = tmp_path / "d.npz"
    with pytest.raises(pycnn.FileError, match="cannot read: No such file"):
        datasets.load_npz(path)
    with pytest.raises(pycnn.FileError, match=r"this is a folder; expected an \.npz file"):
        datasets.load_npz(tmp_path)
    np.save(tmp_path / "a.npy", images(2))
    with pytest.raises(pycnn.FileError, match=r"this is a single array; expected an \.npz"):
        datasets.load_npz(tmp_path / "a.npy")
    np.savez(path, images=images(6), labels=np.arange(6))
    whole = path.read_bytes()
    for content in (b"", b"text", whole[1:]):
        path.write_bytes(content)
        with pytest.raises(
            pycnn.FileError, match=r"this is no \.npz file; expected what np\.savez"
        ):
            datasets.load_npz(path)
    flipped = whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]
    for content in (whole[: len(whole) // 2], whole[:-1], whole[:4] + whole[9:], flipped):
        path.write_bytes(content)
        with pytest.raises(pycnn.FileError, match="it is damaged; expected arrays of numbers"):
            datasets.load_npz(path)


def test_a_validation_set_that_leaves_nothing(tmp_path):
    np.savez(tmp_path / "d.npz", images=images(3), labels=[0, 1, 2])
    with pytest.raises(ValueError, match=r"validation_size is 3; expected 0 to 2"):
        datasets.load_npz(tmp_path / "d.npz", 3)
    with pytest.raises(TypeError, match=r"load_npz: validation_size is 0\.5"):
        datasets.load_npz(tmp_path / "d.npz", 0.5)


def test_bytes_as_floats_are_refused_and_standardised_images_are_not(tmp_path):
    path, pixels = tmp_path / "d.npz", images(6).astype(np.float32)
    np.savez(path, images=pixels, labels=np.arange(6))
    with pytest.raises(
        pycnn.FileError, match=r"all whole numbers up to 25\d; expected 0 to 1: save "
    ):
        datasets.load_npz(path)
    for good in (
        pixels / 255,
        (pixels - 128) / 70,
        pixels - 128,
        np.round(pixels / 255),
        pixels + 0.5,
    ):
        np.savez(path, images=good, labels=np.arange(6))
        np.testing.assert_array_equal(datasets.load_npz(path).train.images[..., 0], good)


def test_whole_numbers_up_to_two_are_no_bytes(tmp_path):
    path = tmp_path / "d.npz"
    for largest, refused in ((1, False), (2, False), (3, True)):
        pixels = np.float32(np.arange(6 * 4 * 5).reshape(6, 4, 5) % (largest + 1))
        np.savez(path, images=pixels, labels=np.arange(6))
        if refused:
            with pytest.raises(pycnn.FileError, match="all whole numbers up to 3; expected 0 to 1"):
                datasets.load_npz(path)
        else:
            np.testing.assert_array_equal(datasets.load_npz(path).train.images[..., 0], pixels)


@pytest.mark.parametrize(("largest", "good"), [(2**31 - 1, True), (2**31, False)])
def test_the_largest_label(tmp_path, largest, good):
    path = tmp_path / "d.npz"
    np.savez(path, images=images(3), labels=np.array([0, largest, 1]))
    if good:
        assert datasets.load_npz(path).train.labels.tolist() == [0, largest, 1]
    else:
        with pytest.raises(pycnn.FileError, match=rf"go from 0 to {largest}; expected 0 to"):
            datasets.load_npz(path)
