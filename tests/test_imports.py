"""No part of pycnn imports, at whatever depth, a part that imports it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "pycnn"
# The commands end themselves where an extra is missing, so plots know the commands.
KNOWN = {"_commands", "_runtime", "plots", "report"}


def imported(path):
    """The first names below pycnn of what a file imports, in functions too; not for types only."""
    tree = ast.parse(path.read_text())
    types_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in types_only:
            continue
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            if package == "pycnn" and rest:
                yield rest.partition(".")[0]


def graph():
    """{part: the parts that it imports}; the package's own __init__ imports at first use only."""
    edges = {}
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part != "__init__":
            edges.setdefault(part, set()).update(set(imported(path)) - {part})
    return edges


def reached(edges, part):
    seen, waiting = set(), [part]
    while waiting:
        new = edges.get(waiting.pop(), set()) - seen
        seen |= new
        waiting += new
    return seen


def test_no_circles():
    edges = graph()
    assert "checkpoint" in edges["callbacks"]
    assert "trainer" in edges["checkpoint"]
    assert {part for part in edges if part in reached(edges, part)} <= KNOWN


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def f():\n    from pycnn import checkpoint", ["checkpoint"]),
        ("import pycnn.trainer.data, numpy", ["trainer"]),
        ("if TYPE_CHECKING:\n    from pycnn.trainer import Trainer", []),
    ],
)
def test_what_counts_as_an_import(tmp_path, text, found):
    (tmp_path / "a.py").write_text(text)
    assert list(imported(tmp_path / "a.py")) == found
