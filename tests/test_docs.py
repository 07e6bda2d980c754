"""The documents are true: their programs run, and the files and names they mention exist.

All ```python blocks of one document run in order, in one namespace, in an empty working directory.
"""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("csrc/*/*.md")])
LECTURE, TRAINING = ROOT / "docs/lecture.md", ROOT / "docs/training.md"

# What a document's programs need beside pycnn: a module, and the extra that brings it.
NEEDS = {
    "docs/formats.md": [("onnx", "onnx")],
    "docs/pictures.md": [("matplotlib", "plot")],
    "docs/sklearn.md": [("sklearn", "sklearn")],
}

LONG = {"README.md", "docs/pictures.md", "docs/sklearn.md"}  # they train for half a minute

# The lecture's program for a test: text that must occur exactly once -> what runs instead.
FEW_STEPS = {
    "learning_rate, epochs, batch_size = 0.001, 30, 100\n": (
        "learning_rate, epochs, batch_size = 0.001, 2, 100\n"
    ),
    "for step in range(total_batch):\n": "for step in range(3):\n",
}


def name(path):
    return path.relative_to(ROOT).as_posix()


def blocks(text):
    """[(language, number of the line before the first, source)] of the fenced blocks."""
    found, opened = [], None
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("```"):
            continue
        if opened is None:
            opened = number, line.removeprefix("```").strip()
        else:
            first, language = opened
            source = "\n".join(text.splitlines()[first : number - 1])
            found.append((language, first, source))
            opened = None
    assert opened is None, f"the block that line {opened[0]} opens is never closed"
    return found


def program(text):
    """The python blocks as one program whose lines keep their numbers."""
    lines = [""] * len(text.splitlines())
    for language, first, source in blocks(text):
        if language == "python":
            lines[first : first + len(source.splitlines())] = source.splitlines()
    return "\n".join(lines) + "\n"


def run(path, shorter=None):
    source = program(path.read_text(encoding="utf-8"))
    for long, short in (shorter or {}).items():
        assert source.count(long) == 1, f"{path.name} has {source.count(long)} times: {long!r}"
        source = source.replace(long, short)
    exec(compile(source, str(path), "exec"), {"__name__": "__main__"})


def has_program(path):
    return bool(program(path.read_text(encoding="utf-8")).strip())


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=name(path), marks=pytest.mark.slow if name(path) in LONG else ())
        for path in DOCUMENTS
        if has_program(path) and path not in (LECTURE, TRAINING)
    ],
)
def test_programs_run(path, tmp_path, monkeypatch):
    for module, extra in NEEDS.get(name(path), []):
        pytest.importorskip(module, reason=f"the extra `{extra}` is not installed")
    monkeypatch.chdir(tmp_path)
    run(path)


@pytest.mark.slow
def test_the_tutorial_runs_from_its_first_line(tmp_path, monkeypatch, capsys):
    """Commands and programs of docs/training.md in their order; the command trains on less."""
    for module, extra in (("matplotlib", "plot"), ("PIL", "images")):
        pytest.importorskip(module, reason=f"the extra `{extra}` is not installed")
    monkeypatch.chdir(tmp_path)
    namespace, ran = {"__name__": "__main__"}, []
    for language, first, source in blocks(TRAINING.read_text(encoding="utf-8")):
        if language == "python":
            exec(compile("\n" * first + source, str(TRAINING), "exec"), namespace)
        elif language == "sh" and source.startswith("python -m pycnn."):
            module, *options = source.removeprefix("python -m ").split()
            short = ["--limit-train", "3000"] if module == "pycnn.train" else []
            ran.append(module)
            assert importlib.import_module(module).main([*options, *short]) == 0
    assert ran == ["pycnn.train", "pycnn.predict"]
    made = {"curves.png", "digits.safetensors", "mistakes.png", "my_digit.png", "run.html"}
    assert {path.name for path in tmp_path.iterdir()} == made
    assert "my_digit.png: 7 (" in capsys.readouterr().out


@pytest.mark.parametrize("document", ["README.md", "docs/gradients.md", "docs/lecture.md"])
def test_these_documents_have_programs(document):
    assert has_program(ROOT / document)


def test_the_lecture_prints_its_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(LECTURE, FEW_STEPS)
    printed = capsys.readouterr().out
    assert "55000 10000 5000" in printed
    assert "train image shape =  (55000, 784)" in printed
    losses = re.findall(r"epochs =  (\d) , step,  0 , loss_val =  (\d+\.\d+)", printed)
    assert [epoch for epoch, _ in losses] == ["0", "1"]
    assert all(0 < float(loss) < 10 for _, loss in losses)
    assert re.search(r"elapsed time =  \d+:\d\d:\d\d", printed)
    accuracy = re.search(r"Accuracy =  ([01]\.\d+)", printed)
    assert accuracy
    assert 0 < float(accuracy[1]) < 1


def test_every_pycnn_line_of_the_lecture_is_in_its_program():
    text = LECTURE.read_text(encoding="utf-8")
    source, right_hand, in_table = program(text), [], False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            in_table = False
        elif cells[-1] == "pycnn":
            in_table = True
        elif in_table:
            right_hand += re.findall(r"`([^`]+)`", cells[-1])
    assert len(right_hand) > 30
    assert [code for code in right_hand if code not in source] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_files_and_names_exist(path):
    text = path.read_text(encoding="utf-8")
    prose = text
    for _, _, source in blocks(text):
        prose = prose.replace(source, "")
    files = re.findall(r"`((?:benchmarks|csrc|docs|pycnn|tests)/[\w./-]+)`", prose)
    assert [file for file in files if not (ROOT / file).exists()] == []

    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose)
    assert [link for link in links if not (path.parent / link).exists()] == []

    places = re.findall(r"`(\w+)` in `((?:csrc|pycnn)/[\w./-]+)`", prose)
    assert [place for place in places if place[0] not in (ROOT / place[1]).read_text()] == []


def test_a_wrong_program_fails_at_its_line(tmp_path):
    document = tmp_path / "wrong.md"
    document.write_text(
        "# Title\n\n```python\nx = 1\n```\n\n```sh\nfalse\n```\n\n```python\nassert x == 2\n```\n"
    )
    with pytest.raises(AssertionError) as failure:
        run(document)
    assert failure.traceback[-1].lineno + 1 == 12
    with pytest.raises(AssertionError, match="has 0 times"):
        run(document, {"y = 1": "y = 2"})
