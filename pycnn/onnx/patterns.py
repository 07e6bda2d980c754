"""Several nodes that exporters write for one function, as one node."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from pycnn.onnx.fold import fold
from pycnn.onnx.nodes import OnnxGraph, OnnxNode
from pycnn.ops.arrays import Array

CLOSE = 1e-4  # of a constant, relative: 0.16666667, 0.7071068


def simplified(graph: OnnxGraph) -> list[OnnxNode]:
    """The nodes that the outputs need, with products that are activations as such."""
    nodes = _needed(graph, graph.nodes)
    match = _Match(graph, nodes)
    for i, node in enumerate(nodes):
        found = match.activation(node) if node.operator in ("Mul", "Div") else match.softplus(node)
        if found is not None:
            kind, x = found
            nodes[i] = OnnxNode(node.index, node.name, f"pycnn.{kind}", [x], node.outputs, {})
    return _needed(graph, nodes)


def _needed(graph: OnnxGraph, nodes: list[OnnxNode]) -> list[OnnxNode]:
    needed = set(graph.outputs)
    kept = []
    for node in reversed(nodes):
        if not needed.isdisjoint(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    return kept[::-1]


class _Match:
    """Who makes what, and which arrays are single numbers."""

    def __init__(self, graph: OnnxGraph, nodes: list[OnnxNode]) -> None:
        self.graph, self.uses = graph, graph.uses()
        self.made = {name: node for node in nodes for name in node.outputs}

    def number(self, name: str) -> float | None:
        """The value of a constant of one number."""
        array: Array | None = self.graph.constants.get(name)
        node = self.made.get(name)
        if array is None and node is not None and node.operator == "Constant":
            array = fold(node, [])[0]
        if array is None or np.size(array) != 1 or not np.issubdtype(array.dtype, np.floating):
            return None
        return float(np.reshape(array, -1)[0])

    def apart(self, node: OnnxNode) -> tuple[str, float] | None:
        """(x, c) of a node that computes x operator c; of a sum or a product also c operator x."""
        pairs = [node.inputs, node.inputs[::-1]] if len(node.inputs) == 2 else []
        for x, c in pairs if node.operator in ("Add", "Mul") else pairs[:1]:
            number = self.number(c)
            if number is not None:
                return x, number
        return None

    def factors(self, name: str, root: bool = False) -> Iterator[str | float]:
        """What is multiplied to this array, through products that nobody else reads."""
        node = self.made.get(name)
        number = self.number(name)
        if number is not None:
            yield number
        elif node is None or node.operator not in ("Mul", "Div") or (
            self.uses[name] > 1 and not root
        ):  # fmt: skip
            yield name
        elif node.operator == "Mul":
            for factor in node.inputs:
                yield from self.factors(factor)
        else:
            divisor = self.number(node.inputs[1])
            if not divisor:
                yield name
            else:
                yield from self.factors(node.inputs[0])
                yield 1 / divisor

    def activation(self, node: OnnxNode) -> tuple[str, str] | None:
        """(the name of a layer, its x)."""
        names, scale = self._product(node.outputs[0], root=True)
        if len(names) != 2:
            return None
        for x, gate in (names, names[::-1]):
            maker = self.made.get(gate)
            if maker is None:
                continue
            kind = self._gate(x, maker, scale)
            if kind is not None:
                return kind, x
        return None

    def softplus(self, node: OnnxNode) -> tuple[str, str] | None:
        """Softplus that is x above a threshold, as PyTorch writes it: Where(x > t, x, softplus)."""
        if node.operator != "Where" or len(node.inputs) != 3:
            return None
        condition, x, y = node.inputs
        above, plus = self.made.get(condition), self.made.get(y)
        if above is None or plus is None or plus.operator != "Softplus":
            return None
        threshold = self.number(above.inputs[1]) if above.operator == "Greater" else None
        same = above.inputs[0] == plus.inputs[0] == x
        return ("Softplus", x) if same and threshold is not None and threshold >= 15 else None

    def _gate(self, x: str, gate: OnnxNode, scale: float) -> str | None:
        """The activation that is x * gate * scale."""
        if gate.operator == "Sigmoid" and gate.inputs[0] == x and scale == 1:
            return "SiLU"
        if gate.operator == "HardSigmoid" and gate.inputs[0] == x and scale == 1:
            slope, shift = gate.get("alpha", 0.2), gate.get("beta", 0.5)
            return "Hardswish" if _close(slope, 1 / 6) and _close(shift, 0.5) else None
        if gate.operator == "Clip" and _close(scale, 1 / 6):
            bounds = gate.get("min"), gate.get("max")
            if len(gate.inputs) == 3:
                bounds = self.number(gate.inputs[1]), self.number(gate.inputs[2])
            return (
                "Hardswish" if bounds == (0, 6) and self._is(gate.inputs[0], "Add", x, 3) else None
            )
        if gate.operator == "Add" and _close(scale, 0.5):
            parts = self.apart(gate)
            inner = self.made.get(parts[0]) if parts and parts[1] == 1 else None
            return None if inner is None else self._gelu(x, inner)
        return None

    def _gelu(self, x: str, inner: OnnxNode) -> str | None:
        """Which GELU has 1 + inner as the gate of x."""
        names, scale = self._product(inner.inputs[0])
        if inner.operator == "Erf":
            return "GELU" if names == [x] and _close(scale, 0.5**0.5) else None
        if inner.operator != "Tanh" or len(names) != 1 or not _close(scale, (2 / math.pi) ** 0.5):
            return None
        total = self.made.get(names[0])  # x + 0.044715 x^3
        if total is None or total.operator != "Add" or x not in total.inputs:
            return None
        cube, scale = self._product(next(name for name in total.inputs if name != x))
        power = self.made.get(cube[0]) if len(cube) == 1 else None
        cubed = cube == [x] * 3 or (
            power is not None and power.operator == "Pow" and self.apart(power) == (x, 3)
        )
        return "GELU.tanh" if cubed and _close(scale, 0.044715) else None

    def _product(self, name: str, root: bool = False) -> tuple[list[str], float]:
        """(the factors that are no numbers, the product of those that are)."""
        found = list(self.factors(name, root))
        names = [f for f in found if isinstance(f, str)]
        return names, math.prod(f for f in found if not isinstance(f, str))

    def _is(self, name: str, operator: str, x: str, number: float) -> bool:
        node = self.made.get(name)
        return node is not None and node.operator == operator and self.apart(node) == (x, number)


def _close(a: float, b: float) -> bool:
    return abs(a - b) <= CLOSE * abs(b)
