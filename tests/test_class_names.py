"""Names of classes travel from the data into the model, its files, predictions and pictures."""

import json

import numpy as np
import pytest
from idx_files import write_folder

import pycnn
from pycnn import checkpoint, datasets, modelfile, predict, train
from pycnn.layers import Flatten, Linear, Sequential

ANIMALS = ("cat", "dog", "hen")


def model(names=ANIMALS, outputs=3):
    made = Sequential(Flatten(), Linear(20, outputs))
    made.input_shape, made.class_names = (4, 5, 1), names
    return made


def animals(n=30):
    rng = np.random.default_rng(0)
    return datasets.Split(rng.integers(0, 256, (n, 4, 5, 1), np.uint8), np.arange(n) % 3, ANIMALS)


BAD = {
    "a string": ("cat", TypeError, "class_names is a str; expected strings, one a class"),
    "a number": (3, TypeError, "class_names is an int; expected strings"),
    "numbers": ((0, 1, 2), TypeError, r"class_names\[0\] is 0, an int; expected a string"),
    "twice": (("a", "b", "a"), ValueError, "class_names has 'a' twice, as classes 0 and 2;"),
    "empty": (("a", " ", "b"), ValueError, r"class_names\[1\] is ' '; expected a name that can be"),
    "two lines": (("a", "b\nc", "d"), ValueError, r"class_names\[1\] is 'b\\nc'; expected"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_are_no_names_is_told(name):
    value, kind, words = BAD[name]
    with pytest.raises(kind, match=words):
        datasets.Split(np.zeros((1, 4, 5, 1), np.uint8), np.zeros(1, np.uint8), value)
    made = model()
    with pytest.raises(kind, match=words):
        made.class_names = value
    assert made.class_names == ANIMALS


def test_the_number_of_names():
    with pytest.raises(ValueError, match="class_names has 2 names; expected 3, one a class"):
        model(("a", "b"))
    with pytest.raises(ValueError, match="class_names has 3 names, and there is a label 3;"):
        datasets.Split(np.zeros((1, 4, 5, 1), np.uint8), np.array([3]), ANIMALS)
    assert model(np.array(ANIMALS)).class_names == ANIMALS
    assert type(model(np.array(ANIMALS)).class_names[0]) is str
    assert model(None).class_names is None


def test_of_a_part_of_a_model():
    made = model()
    assert (made[:1].class_names, made[1:].class_names) == (None, ANIMALS)


def test_mnists_are_its_digits():
    splits = datasets.load_mnist()
    for split in (splits.train, splits.validation, splits.test):
        assert split.class_names == tuple("0123456789")


def test_a_file_beside_idx_files(tmp_path):
    folder = write_folder(tmp_path / "d", 60, 52, size=(9, 12), classes=3)
    assert datasets.load_idx(folder, 5).train.class_names is None
    names = folder / "class-names.txt"
    names.write_bytes(b"\xef\xbb\xbfcat \r\nd\xc3\xb6g\r\nhen\r\n")
    data = datasets.load_idx(folder, 5)
    for split in (data.train, data.validation, data.test):
        assert split.class_names == ("cat", "dög", "hen")
    assert datasets.classes_of(data) == 3
    for content, words in (
        (b"cat\ndog\n", "class_names has 2 names, and there is a label 2;"),
        (b"cat\ncat\nhen\n", "'cat' twice"),
        (b"\xff\n", "found bytes that are no UTF-8; expected one name a line"),
        (b"cat\n\nhen\n", r"class_names\[1\] is ''"),
    ):
        names.write_bytes(content)
        with pytest.raises(datasets.IdxError, match=words) as caught:
            datasets.load_idx(folder, 5)
        assert str(caught.value).startswith(f"{names}: ")


def test_an_array_in_an_npz_file(tmp_path):
    arrays = {"images": np.zeros((6, 4, 5), np.uint8), "labels": np.arange(6) % 3}
    np.savez(tmp_path / "a.npz", **arrays, class_names=ANIMALS)
    data = datasets.load_npz(tmp_path / "a.npz", 2)
    assert [s.class_names for s in (data.train, data.validation, data.test)] == [ANIMALS] * 3
    for names, words in ((ANIMALS[:2], "has 2 names"), ([1, 2, 3], "expected a string")):
        np.savez(tmp_path / "a.npz", **arrays, class_names=names)
        with pytest.raises(pycnn.FileError, match=words):
            datasets.load_npz(tmp_path / "a.npz")


def test_a_trainer_gives_them_to_its_model(tmp_path):
    def fitted(made, data):
        trainer = pycnn.Trainer(made, pycnn.optim.SGD(made.parameters(), 0.1))
        trainer.fit(data, epochs=1, batch_size=10)
        checkpoint.save(trainer, tmp_path / "c.safetensors")
        return trainer.model.class_names

    data = animals()
    assert fitted(model(None), data) == ANIMALS
    assert pycnn.load_model(tmp_path / "c.safetensors").class_names == ANIMALS
    assert fitted(model(("x", "y", "z")), data) == ("x", "y", "z")
    assert fitted(model(None, outputs=7), data) is None
    assert fitted(model(None), (data.images, data.labels)) is None


@pytest.mark.parametrize("names", [None, ANIMALS])
def test_files_keep_them(tmp_path, names):
    pycnn.save_model(model(names), tmp_path / "m.safetensors")
    assert pycnn.load_model(tmp_path / "m.safetensors").class_names == names
    assert ("class_names" in modelfile.describe(model(names))) == (names is not None)
    damaged = {**modelfile.describe(model()), "class_names": ["cat", "dog"]}
    with pytest.raises(ValueError, match="class_names has 2 names; expected 3"):
        modelfile.build(damaged)


def test_onnx_files_keep_them(tmp_path):
    onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
    path = tmp_path / "m.onnx"
    pycnn.onnx.export_onnx(model(("cat", "dög", "hen")), path, (None, 4, 5, 1))
    assert pycnn.onnx.import_onnx(path).class_names == ("cat", "dög", "hen")
    proto = onnx.load(str(path))
    for foreign in ("cat,dog", '["cat"]', "7"):
        proto.metadata_props[0].value = foreign
        onnx.save(proto, str(path))
        assert pycnn.onnx.import_onnx(path).class_names is None


def test_the_commands_train_and_predict_with_them(tmp_path, capsys):
    Image = pytest.importorskip("PIL.Image", reason="Pillow is in an extra")
    folder = write_folder(tmp_path / "d", 60, 52, size=(28, 28), classes=3)
    (folder / "class-names.txt").write_text("shirt\nshoe\nbag\n")
    path = str(tmp_path / "m.safetensors")
    options = ["--epochs", "1", "--batch-size", "10", "--validation-size", "5", "--quiet"]
    options += ["--set", "init=he", "--limit-train", "40"]
    assert train.main([*options, "--data-dir", str(folder), "--save-model", path]) == 0
    patch = np.pad(np.full((20, 20), 200, np.uint8), 4)  # no strokes, but no digits are asked for
    Image.fromarray(patch).save(tmp_path / "a.png")
    capsys.readouterr()
    assert predict.main([path, str(tmp_path / "a.png"), "--top", "3"]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert sorted(part.split()[0] for part in line.partition(": ")[2].split(", ")[:3]) == [
        "bag",
        "shirt",
        "shoe",
    ]
    assert predict.main([path, str(tmp_path / "a.png"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["name"] == ("shirt", "shoe", "bag")[told["class"]] == told["top"][0]["name"]


def test_pictures_call_classes_by_them():
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    image = animals().images[0]
    for figure in (
        pycnn.plots.feature_maps(model(), image, 2),
        pycnn.plots.saliency(model(), image),
    ):
        assert any(name in figure._suptitle.get_text() for name in ANIMALS)
    assert "for a hen" in pycnn.plots.feature_maps(model(), image, 2)._suptitle.get_text()
