"""Pictures in folders of classes: what is read, in which order, and what is refused."""

import sys

import numpy as np
import pytest
from cifar_files import contents, write_folder
from idx_files import write_folder as write_idx

import pycnn
from pycnn import datasets, optim, train
from pycnn.datasets import cifar

Image = pytest.importorskip("PIL.Image", reason="Pillow is in an extra: pip install '.[images]'")

RNG = np.random.default_rng(0)


def save(path, pixels, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)
    return pixels


def pixels_of(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def pets(tmp_path):
    """{name: pixels} of a folder of 5 x 7 colour pictures; cats are classes[0]."""
    held = {}
    for part, count in (("train", 6), ("test", 3)):
        for kind in ("dog", "cat"):
            for i in range(count):
                name = f"{part}/{kind}/{i:03}.png"
                held[name] = save(tmp_path / name, pixels_of(5, 7, 3))
    (tmp_path / "train" / ".DS_Store").write_bytes(b"of a system")
    (tmp_path / "train" / "cat" / ".hidden").write_bytes(b"alike")
    (tmp_path / "train" / "README.txt").write_text("beside the classes")
    return tmp_path, held


def test_all_pictures_arrive_with_their_classes(pets):
    path, held = pets
    data = datasets.load_image_folder(path, validation_size=4)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [8, 4, 6]
    assert data.train.class_names == ("cat", "dog")
    names = {pixels.tobytes(): name for name, pixels in held.items()}
    seen = []
    for split, part in ((data.train, "train"), (data.validation, "train"), (data.test, "test")):
        assert split.images.shape[1:] == (5, 7, 3)
        for image, label in zip(split.images, split.labels, strict=True):
            seen.append(names[image.tobytes()])
            assert seen[-1].startswith(f"{part}/{data.train.class_names[label]}/")
    assert sorted(seen) == sorted(held)
    assert 0 < data.train.labels.mean() < 1  # shuffled, not cats first
    again = datasets.load_image_folder(path, validation_size=4)
    np.testing.assert_array_equal(again.train.images, data.train.images)


def test_classes_at_the_top_are_all_for_training(pets):
    path, _ = pets
    data = datasets.load_image_folder(path / "train")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [12, 0, 0]


def test_grey_alone_stays_grey_and_size_scales(tmp_path):
    grey = save(tmp_path / "a" / "1.png", pixels_of(4, 6))
    colour = np.add.outer(np.add.outer(np.arange(8) * 9, np.arange(12) * 6), [0, 40, 90])
    folder = datasets.ImageFolder(tmp_path)
    np.testing.assert_array_equal(folder.read([0]), grey[None, ..., None])
    save(tmp_path / "b" / "2.png", colour.astype(np.uint8))
    folder = datasets.ImageFolder(tmp_path, size=(4, 6))
    assert folder.image_shape == (4, 6, 3)
    first, second = folder.read([0, 1])
    np.testing.assert_array_equal(first, np.repeat(grey[..., None], 3, axis=2))
    halves = colour.reshape(4, 2, 6, 2, 3).mean(axis=(1, 3))
    assert np.abs(second[1:-1, 1:-1] - halves[1:-1, 1:-1]).max() < 1.5
    assert datasets.ImageFolder(tmp_path, size=3, channels=1).read([1]).shape == (1, 3, 3, 1)
    assert folder.class_names == ("a", "b")


def test_transparent_pictures_are_laid_on_black(tmp_path):
    pixels = pixels_of(3, 4, 4)
    pixels[..., 3] = 255
    pixels[1, 2] = 255, 255, 255, 0
    save(tmp_path / "a" / "1.png", pixels)
    (read,) = datasets.ImageFolder(tmp_path).read([0])
    assert read[1, 2].tolist() == [0, 0, 0]
    np.testing.assert_array_equal(np.delete(read, 1, axis=0), np.delete(pixels, 1, 0)[..., :3])


def test_batches_are_read_when_their_turn_comes(pets, monkeypatch):
    path, _ = pets
    folder = datasets.ImageFolder(path / "train")
    batches = folder.batches(5, seed=3)
    assert len(batches) == 2
    first = [(x.copy(), y.copy()) for x, y in batches]
    batches.set_epoch(1)
    other = [(x.copy(), y.copy()) for x, y in batches]
    assert not np.array_equal(first[0][1], other[0][1]) or not (first[0][0] == other[0][0]).all()
    batches.set_epoch(0)
    for (x, y), (x0, y0) in zip(batches, first, strict=True):
        np.testing.assert_array_equal(x, x0)
        np.testing.assert_array_equal(y, y0)
    order = np.random.default_rng([3, 1, 0]).permutation(12)
    np.testing.assert_array_equal(first[1][0], folder.read(order[5:10]))
    model = pycnn.models.stages((4,), input_shape=(5, 7, 3), classes=2, rng=0)
    trainer = pycnn.Trainer(model, optim.SGD(model.parameters(), 0.01))
    trainer.fit(batches, epochs=2)
    assert trainer.steps_done == 4
    with pytest.raises(ValueError, match="batch_size is 13; expected 1 to the 12 pictures"):
        folder.batches(13)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train/cat/bad.png", b"no picture", r"bad.png: found no picture in a format that Pillow"),
        ("train/cat/notes.txt", b"", r"notes.txt: found no picture by its name; expected pictures"),
        ("train/cat/more/x.png", b"", r"more: found a folder; expected pictures alone: .bmp, .gif"),
        ("train/mouse/.none", b"", r"mouse: found no pictures in it; expected some of class mouse"),
        ("test/fox/1.png", b"", r"fox: found a class; expected one of cat, dog\.$"),
    ],
)
def test_what_is_no_picture_is_refused(pets, name, content, words):
    path, _ = pets
    file = path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    with pytest.raises(pycnn.FileError, match=words):
        datasets.load_image_folder(path, size=4)


def test_other_pictures_that_do_not_fit(pets):
    path, held = pets
    whole = (path / "train/dog/002.png").read_bytes()
    (path / "train/dog/002.png").write_bytes(whole[:60])
    with pytest.raises(pycnn.FileError, match=r"dog/002.png: cannot be read as a picture: .*\.$"):
        datasets.load_image_folder(path, size=(5, 7))
    Image.fromarray(np.zeros((5, 7), np.uint16)).save(path / "train/dog/002.png")
    with pytest.raises(pycnn.FileError, match=r"002.png: found more than 8 bits a channel; expect"):
        datasets.load_image_folder(path)
    save(path / "train/dog/002.png", pixels_of(6, 7, 3))
    with pytest.raises(pycnn.FileError, match=r"002.png: found 7 x 6 pixels; expected 7 x 5, as "):
        datasets.load_image_folder(path)
    assert datasets.load_image_folder(path, size=5).train.images.shape == (12, 5, 5, 3)
    save(path / "train/dog/002.png", held["train/dog/002.png"])
    for kind in ("cat", "dog"):
        for i in range(3):
            save(path / f"test/{kind}/{i:03}.png", pixels_of(5, 8, 3))
    with pytest.raises(pycnn.FileError, match=r"found 8 x 5 pixels; expected 7 x 5, as for "):
        datasets.load_image_folder(path)


def test_arguments_and_folders_that_cannot_be(pets, tmp_path, monkeypatch):
    path, _ = pets
    with pytest.raises(pycnn.FileError, match="no: there is no such folder; expected one with a f"):
        datasets.load_image_folder(tmp_path / "no")
    with pytest.raises(pycnn.FileError, match="cat: found no folders in it; expected one a class"):
        datasets.ImageFolder(path / "train" / "cat")
    for size in (0, 5000, (3,), "4", (3, 2.5)):
        with pytest.raises(ValueError, match=r"ImageFolder: size is .*; expected \(H, W\), or one"):
            datasets.ImageFolder(path / "train", size)
    with pytest.raises(ValueError, match="channels is 4; expected 1, 3 or None"):
        datasets.ImageFolder(path / "train", channels=4)
    with pytest.raises(ValueError, match="validation_size is 12; expected 0 to 11, less "):
        datasets.load_image_folder(path, validation_size=12)
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "PIL.Image")
    with pytest.raises(ImportError, match=r"ImageFolder needs Pillow, .*install 'pycnn\[images"):
        datasets.load_image_folder(path)


def test_a_folder_whose_name_cannot_be_printed_or_read_is_refused(tmp_path, monkeypatch):
    save(tmp_path / "a\nb" / "1.png", pixels_of(2, 2))
    with pytest.raises(pycnn.FileError, match=r"class_names\[0\] is 'a\\nb'; expected a name that"):
        datasets.load_folder(tmp_path, 0)

    def denied(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "iterdir", denied)
    with pytest.raises(pycnn.FileError, match=r": cannot be read: Permission denied\.$"):
        datasets.load_folder(tmp_path, 0)


def test_load_folder_tells_the_kinds_apart(pets, tmp_path, monkeypatch):
    path, _ = pets
    monkeypatch.setattr(cifar, "RECORDS", 3)
    write_folder(tmp_path / "cifar", contents(3)[0])
    write_idx(tmp_path / "idx", 30, 20, size=(6, 5), classes=10)
    for name, shape in (("cifar", (32, 32, 3)), ("idx", (6, 5, 1)), ("", (5, 7, 3))):
        assert datasets.load_folder(tmp_path / name, 2).train.images.shape[1:] == shape
    assert datasets.load_folder(path, 2, size=4).train.images.shape[1:] == (4, 4, 3)
    with pytest.raises(ValueError, match="and these are images in IDX files; leave it out"):
        datasets.load_folder(tmp_path / "idx", 2, size=4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(pycnn.FileError, match=r"empty: found no data set that pycnn knows; expect"):
        datasets.load_folder(tmp_path / "empty")


def main(*options):
    return train.main([*map(str, options), "--quiet"])


def test_the_command_trains_a_model_on_pictures(pets, capsys):
    path, _ = pets
    given = ("--model", "resnet20", "--data-dir", path, "--batch-size", 4, "--epochs", 1)
    given += ("--validation-size", 2)
    assert main(*given, "--save-model", path / "pets.safetensors") == 0
    model = pycnn.load_model(path / "pets.safetensors")
    assert model.input_shape == (5, 7, 3)
    assert model.class_names == ("cat", "dog")
    assert main("--data-dir", path, "--eval", path / "pets.safetensors") == 0
    assert main(*given, "--image-size", 8, "--dry-run") == 0
    capsys.readouterr()
    for sized, words in (
        (
            ("--data-dir", write_idx(path / "idx"), "--image-size", 8),
            "argument --image-size: ",
        ),
        (("--image-size", 8), "--image-size without --data-dir: MNIST has 28 x 28 pixels"),
        (
            ("--data-dir", path, "--validation-size", 12),
            "argument --validation-size: load_im",
        ),
    ):
        with pytest.raises(SystemExit) as stop:
            main(*sized)
        assert stop.value.code == 2
        assert words in capsys.readouterr().err
    assert main("--data-dir", path / "train", "--validation-size", 2) == 1
    assert "found pictures for training only; expected some for the test" in capsys.readouterr().err
