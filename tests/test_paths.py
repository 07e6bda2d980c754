"""What is no path is a sentence, wherever a path comes in; and so is a folder that has gone."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from train_command import ENVIRONMENT

import pycnn
from pycnn import layers, onnx, plots, recipes, report
from pycnn._formats.files import file_path, read_safetensors, real_path, write_safetensors

MODEL = layers.Sequential(layers.Flatten(), layers.Linear(4, 2, rng=0))
USES = {
    "save_model": lambda path: pycnn.save_model(MODEL, path),
    "load_model": pycnn.load_model,
    "write": lambda path: write_safetensors(path, {}, {}),
    "read": read_safetensors,
    "load_config": recipes.load_config,
    "read_config": recipes.read_config,
    "plots.check": plots.check,
    "plots.save": lambda path: plots.save(None, path),
    "report.check": report.check,
    "report.write": lambda path: report.write(path, None, None),
    "export_onnx": lambda path: onnx.export_onnx(MODEL, path, (None, 2, 2, 1)),
    "import_onnx": onnx.import_onnx,
}
NEEDS = {"plots": "matplotlib", "report": "matplotlib", "export": "onnx", "import": "onnx"}


@pytest.fixture(params=USES)
def use(request, tmp_path, monkeypatch):
    name = request.param
    for start, library in NEEDS.items():
        if name.startswith(start):
            pytest.importorskip(library, reason="is in an extra")
    monkeypatch.chdir(tmp_path)
    yield USES[name]
    assert os.listdir(tmp_path) == []


class Odd(os.PathLike):
    def __fspath__(self):
        return b"x"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (
            None,
            r"path is None; expected the name of a file, a str or a pathlib\.Path: write P",
        ),
        (b"x.png", r"path is b'x\.png'; .*: write os\.fsdecode\(path\), say\."),
        (3, "path is 3; expected the name"),
        (Odd(), r"expected the name .*write os\.fsdecode"),
        ([*range(100)], "path is a list; expected the name"),
    ],
)
def test_what_is_no_path(use, path, words):
    with pytest.raises(TypeError, match=words):
        use(path)


def test_a_nul_in_a_name(use):
    with pytest.raises((pycnn.FileError, recipes.ConfigError), match=r"^'a\\x00b\.png': no file"):
        use("a\0b.png")


def test_paths_of_both_kinds_are_taken(tmp_path):
    for path in (str(tmp_path / "a"), tmp_path / "b"):
        pycnn.save_model(MODEL, path)
        np.testing.assert_array_equal(
            pycnn.load_model(path).state_dict()["1.weight"], MODEL.state_dict()["1.weight"]
        )
        assert file_path(path) == Path(path)


GONE = "cannot write: the working directory was deleted; expected one that is there, or a name from"


@pytest.fixture
def gone(tmp_path, monkeypatch):
    """The working directory, which was deleted."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    return folder


def test_a_working_directory_that_was_deleted(gone, tmp_path):
    with pytest.raises(pycnn.FileError, match=f"^x: {GONE}"):
        pycnn.save_model(MODEL, "x")
    pycnn.save_model(MODEL, tmp_path / "x")
    assert real_path(tmp_path / "x") == tmp_path / "x"


@pytest.mark.parametrize(
    "arguments",
    [
        ["pycnn.train", "--save-model", "x"],
        ["pycnn.train", "--checkpoint-dir", "x"],
        ["pycnn.train", "--json-log", "x"],
        ["pycnn.train", "--data-dir", "."],
        ["pycnn.train", "--resume", "x"],
        ["pycnn.train", "--eval", "x"],
        ["pycnn.predict", "x", "y"],
        ["pycnn", "train", "--save-model", "x"],
    ],
    ids=" ".join,
)
def test_commands_in_a_working_directory_that_was_deleted(gone, arguments):
    run = subprocess.run(
        [sys.executable, "-m", *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stderr
    (line,) = run.stderr.splitlines()
    assert line.startswith(("pycnn.train: ", "pycnn.predict: "))
    if {"--save-model", "--json-log", "--checkpoint-dir"} & {*arguments}:
        assert GONE in line
