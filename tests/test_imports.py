"""No module of pycnn imports, at whatever depth, a module that imports it."""

import ast
from pathlib import Path

import pytest

import pycnn

PACKAGE = Path(pycnn.__file__).resolve().parent  # of the checkout, or where it is installed


def modules():
    """{"pycnn.trainer.data": its file}; a package is its __init__."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path):
    """All names that a file imports, in functions too; not for types only."""
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
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def graph():
    """{module: the modules that it loads}: with a.b.c also a.b, but not the packages it is in.

    The whole package's __init__ imports most parts at their first use only, so it is left out.
    """
    files, edges = modules(), {}
    for module in files.keys() - {"pycnn"}:
        own = {module.rsplit(".", depth)[0] for depth in range(module.count(".") + 1)}
        edges[module] = set()
        for name in imported(files[module]):
            parts = name.split(".")
            starts = {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
            edges[module] |= (starts & files.keys()) - own - {"pycnn"}
    return edges


def circles(edges):
    """The modules that load themselves, by way of others."""

    def reached(module):
        seen, waiting = set(), [module]
        while waiting:
            new = edges.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        return seen

    return {module for module in edges if module in reached(module)}


def test_no_circles():
    edges = graph()
    assert "pycnn.checkpoint" in edges["pycnn.callbacks.checkpoint"]
    assert "pycnn.trainer.callback" in edges["pycnn.checkpoint"]
    assert circles(edges) == set()
    # as it was: a checkpoint looked up a class of callbacks, whose package looks up checkpoints
    edges["pycnn.checkpoint"] |= {"pycnn.callbacks.stops", "pycnn.callbacks"}
    assert circles(edges) >= {"pycnn.checkpoint", "pycnn.callbacks"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def f():\n    from pycnn import checkpoint", ["pycnn.checkpoint"]),
        ("import pycnn.trainer.data, numpy", ["pycnn.trainer.data", "numpy"]),
        ("if TYPE_CHECKING:\n    from pycnn.trainer import Trainer", []),
    ],
)
def test_what_counts_as_an_import(tmp_path, text, found):
    (tmp_path / "a.py").write_text(text)
    assert list(imported(tmp_path / "a.py")) == found
