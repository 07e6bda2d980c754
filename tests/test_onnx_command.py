"""`python -m pycnn.onnx`, and the table of operators in the docs."""

from pathlib import Path

import numpy as np
import pytest
from onnx_cases import model, node, onnx

from pycnn import models
from pycnn.onnx import __main__, export_onnx, operators

DOCS = Path(__file__).parent.parent / "docs" / "formats.md"


@pytest.fixture
def path(tmp_path):
    export_onnx(models.mnist_cnn(), tmp_path / "m.onnx")
    return str(tmp_path / "m.onnx")


def test_it_prints_the_program_the_work_and_the_plan(path, capsys):
    assert __main__.main([path, "--batch", "3"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    program, facts, plan = printed.out.strip().split("\n\n")
    assert program.splitlines()[0].split() == ["v0", "input", "(None,", "28,", "28,", "1)"]
    assert "Conv2d(1, 32" in program
    assert [line.split()[0] for line in facts.splitlines()] == ["parameters", "work", "memory"]
    assert " MFLOP an image" in facts
    assert plan.splitlines()[0] == "plan for 3 images:"


def test_it_times(path, capsys, monkeypatch):
    monkeypatch.setattr(__main__, "SECONDS", 0.0)
    assert __main__.main([path, "--time"]) == 0
    last = capsys.readouterr().out.strip().split("\n\n")[-1].splitlines()
    assert last[0].startswith("time for 1, ")
    assert last[2].split()[0] == "pycnn"
    assert last[3].startswith("ONNX Runtime")


def test_it_names_what_it_cannot_read(tmp_path, capsys):
    nodes = [node("Det", "x", "t", "a"), node("Hardmax", "x", "u", "b"), node("Sum", "t u", "y")]
    onnx.save(model(nodes, {"x": (None, 2, 4, 4)}, {"y": 4}), tmp_path / "m.onnx")
    assert __main__.main([str(tmp_path / "m.onnx")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "2 nodes cannot be read:\n  node 0 'a' (Det): " in printed.err
    assert __main__.main([str(tmp_path / "gone.onnx")]) == 1
    assert "there is no such file" in capsys.readouterr().err


def test_free_extents_are_told_and_given(tmp_path, capsys):
    nodes = [node("Conv", "x w", "y")]
    w = np.zeros((3, 2, 3, 3), np.float32)
    onnx.save(model(nodes, {"x": (None, 2, "h", "w")}, {"y": 4}, {"w": w}), tmp_path / "m.onnx")
    assert __main__.main([str(tmp_path / "m.onnx")]) == 0
    printed = capsys.readouterr()
    assert "the file leaves extents free; 224 stands for them" in printed.err
    assert "(None, 222, 222, 3)" in printed.out
    assert __main__.main([str(tmp_path / "m.onnx"), "--shape", "9", "8", "2"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "(None, 7, 6, 3)" in printed.out


def test_usage_errors_are_sentences(capsys):
    with pytest.raises(SystemExit) as caught:
        __main__.main(["m.onnx", "--batch", "0"])
    assert caught.value.code == 2
    assert "'0' is not a number of images" in capsys.readouterr().err


@pytest.mark.skipif(not DOCS.exists(), reason="docs is a folder of the checkout")
def test_the_docs_have_the_table_of_operators():
    """After a change: write what `operators.table()` gives between the two marks."""
    _, _, rest = DOCS.read_text().partition("a test compares -->\n")
    assert rest.partition("\n<!-- end of operators -->")[0] == operators.table()


def test_the_table_knows_the_newest_opset():
    assert operators.NEWEST >= 26
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    assert set(operators.OPERATORS) <= known
