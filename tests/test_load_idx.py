"""`load_idx`: folders of IDX files of other sizes and classes than MNIST's, and the command."""

import numpy as np
import pytest
from idx_files import idx_bytes, write_folder

import pycnn
from pycnn import datasets, train


@pytest.fixture
def letters(tmp_path):
    """Images of 9 x 12 pixels of 26 classes."""
    return write_folder(tmp_path / "letters", 60, 52, size=(9, 12), classes=26)


def test_sizes_and_classes_come_from_the_files(letters):
    data = datasets.load_idx(letters, 8)
    assert data.train.images.shape == (52, 9, 12, 1)
    assert data.validation.images.shape == (8, 9, 12, 1)
    assert data.test.labels.tolist() == [*range(26)] * 2
    assert datasets.classes_of(data) == 26


def test_mnists_shape_gives_what_load_mnist_gives(tmp_path):
    folder = write_folder(tmp_path / "ten")
    one, other = datasets.load_idx(folder, 5), datasets.load_mnist(folder, 5)
    for name in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(one, name).images, getattr(other, name).images)
        np.testing.assert_array_equal(getattr(one, name).labels, getattr(other, name).labels)
    assert datasets.classes_of(one) == 10


def test_load_mnist_stays_strict(letters):
    with pytest.raises(datasets.IdxError, match=r"9 x 12 pixels; expected 28 x 28"):
        datasets.load_mnist(letters, 8)


def put(folder, stem, array):
    for path in folder.glob(f"{stem}*"):
        path.unlink()
    (folder / stem).write_bytes(idx_bytes(array))


@pytest.mark.parametrize(
    ("stem", "shape", "words"),
    [
        ("t10k-images-idx3-ubyte", (52, 9, 11), "of 9 x 12 pixels and test images of 9 x 11"),
        ("train-images-idx3-ubyte", (60, 0, 12), "of 0 x 12 pixels; expected 1 to 4,096 pixels a"),
        ("train-images-idx3-ubyte", (1, 1, 4097), "1 x 4,097 pixels; expected 1 to 4,096 pixels"),
        ("train-images-idx3-ubyte", (59, 9, 12), "found 60 labels; expected one for each of the 5"),
    ],
)
def test_what_does_not_fit_is_refused(letters, stem, shape, words):
    put(letters, stem, np.zeros(shape, np.uint8))
    with pytest.raises(datasets.IdxError, match=words):
        datasets.load_idx(letters, 8)


def test_a_header_cannot_ask_for_more_than_is_sane(letters):
    path = letters / "train-images-idx3-ubyte.gz"
    path.unlink()
    header = np.array([0x0803, 2**31, 4096, 4096], ">u4").tobytes()
    (letters / "train-images-idx3-ubyte").write_bytes(header)
    with pytest.raises(datasets.IdxError, match=r"2,147,483,648 images in the header; expected 1 "):
        datasets.load_idx(letters, 8)


def test_the_command_trains_on_them(letters, tmp_path, capsys):
    model = tmp_path / "letters.safetensors"
    options = ["--recipe", "fast", "--data-dir", str(letters), "--batch-size", "20", "--quiet"]
    options += ["--validation-size", "8", "--epochs", "1"]
    assert train.main([*options, "--save-model", str(model)]) == 0
    saved = pycnn.load_model(model)
    assert saved.input_shape == (9, 12, 1)
    assert saved.output_shape((None, 9, 12, 1)) == (None, 26)
    assert train.main(["--eval", str(model), "--data-dir", str(letters), "--quiet"]) == 0
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:  # the lecture's values fit its own network alone
        train.main(["--data-dir", str(letters), "--validation-size", "8", "--batch-size", "20"])
    assert stop.value.code == 2
    assert "--set init=he" in capsys.readouterr().err
