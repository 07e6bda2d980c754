"""A network as data: its calls in order, from its inputs to its outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pycnn.graph.values import Node, Shape, Trace, Value, label_of

Array = np.ndarray[Any, Any]


class Program:
    """What a module does with its inputs: `nodes` in the order of their calls.

    Made by `model.program(input_shape)`. Calls whose results no output needs are left out. `print`
    shows a line a node: its value, its layer, the values it reads, and the shape for N images.
    """

    def __init__(
        self, inputs: Sequence[Value], outputs: Sequence[Value], nodes: list[Node]
    ) -> None:
        """nodes: in the order of their calls; those that no output needs are dropped."""
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        needed = set(map(id, self.outputs))
        self.nodes: list[Node] = []
        for node in reversed(nodes):
            if any(id(y) in needed for y in node.outputs):
                needed.update(map(id, node.inputs))
                self.nodes.append(node)
        self.nodes.reverse()
        values = [*self.inputs, *(y for node in self.nodes for y in node.outputs)]
        self.number = {id(value): i for i, value in enumerate(values)}
        self.values = values

    def ids(self, values: Iterable[Value]) -> tuple[int, ...]:
        """The numbers of values: inputs first, then results in the order of the nodes."""
        return tuple(self.number[id(value)] for value in values)

    @property
    def name_of(self) -> dict[str, Any]:
        """Each layer that has a name, once, by that name."""
        return {node.name: node.operation for node in self.nodes if is_named(node)}

    def evaluate(self, xs: Sequence[Array]) -> list[tuple[Node, tuple[Array, ...]]]:
        """Every node by itself on arrays, in new memory: (node, its results)."""
        known = dict(zip(map(id, self.inputs), xs, strict=True))
        found = []
        for node in self.nodes:
            ys = node.operation(*(known[id(x)] for x in node.inputs))
            ys = ys if isinstance(ys, tuple) else (ys,)
            known.update(zip(map(id, node.outputs), ys, strict=True))
            found.append((node, ys))
        return found

    def __str__(self) -> str:
        """A line a node."""
        lines = [(f"v{i}", "input", "", "", _shape(value)) for i, value in enumerate(self.inputs)]
        for node in self.nodes:
            names = ", ".join(f"v{i}" for i in self.ids(node.outputs))
            reads = ", ".join(f"v{i}" for i in self.ids(node.inputs))
            shapes = ", ".join(map(_shape, node.outputs))
            lines.append((names, node.name, repr(node.operation), reads, shapes))
        outputs = ", ".join(f"v{i}" for i in self.ids(self.outputs))
        lines.append(("", "output", "", outputs, ""))
        return columns(lines)

    __repr__ = __str__


def is_named(node: Node) -> bool:
    """Whether its layer is an attribute of the model, not a function or a passing one."""
    return bool(node.name) and node.in_model


def _shape(value: Value) -> str:
    return "" if value.known_shape is None else str(value.shape)


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def trace(root: Any, names: Mapping[int, str], shapes: Sequence[Shape | None]) -> Program:
    """The program of a layer or module for inputs of these shapes (with N), or unknown ones.

    names: the path of each layer inside root, by its id.
    """
    calls = Trace(root, names)
    inputs = [Value(calls, shape, None) for shape in shapes]
    label = label_of("", root)
    given = calls.call(root, tuple(inputs))
    outputs = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    for y in outputs:
        if not isinstance(y, Value) or y.trace is not calls:
            raise TypeError(
                f"{label}: forward returned {type(y).__name__}; expected what layers made of its "
                "arguments, or a tuple of that."
            )
    if not outputs:
        raise TypeError(f"{label}: forward returned nothing; expected at least one value.")
    return Program(inputs, outputs, calls.nodes)
