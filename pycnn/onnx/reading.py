"""The walk through an ONNX graph: what each tensor is, and the layers that are made."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pycnn import init, layers
from pycnn.graph.values import Value
from pycnn.layers.base import Layer
from pycnn.onnx import fold
from pycnn.onnx.nodes import OnnxGraph, OnnxNode
from pycnn.onnx.views import Unreadable, View, channels_last, lay, regroup
from pycnn.ops.arrays import Array

Tensor = Any  # a View, or an array that is known at import


class Unknown:
    """The result of a node that could not be read."""


class Reading:
    """The tensors of a graph by name, and what is wrong with it.

    The readers of `operators.py` call `view`, `constant`, `make`, `call` and the arrangements of
    `views.py`; `node` is the node being read.
    """

    def __init__(self, graph: OnnxGraph) -> None:
        """Only the file's constants are known."""
        self.graph, self.opset = graph, graph.opset
        self.tensors: dict[str, Tensor] = dict(graph.constants)
        self.uses = graph.uses()
        self.problems: list[str] = []
        self.names: dict[str, Layer] = {}
        self._named: dict[int, str] = {}
        self.node: OnnxNode = OnnxNode(0, "", "", [], [], {})

    def read(self, readers: Mapping[str, Any]) -> None:
        """Every node; what cannot be read becomes a sentence in `problems`."""
        for node in self.graph.nodes:
            self.node = node
            try:
                found = self._results(node, readers)
            except Unreadable as error:
                self.problems.append(f"{node.where}: {error}")
                found = ()
            except fold.CountsImages:
                raise
            except (TypeError, ValueError) as error:
                self.problems.append(f"{node.where}: {str(error).rstrip('.')}")
                found = ()
            for i, name in enumerate(node.outputs):
                if name:
                    self.tensors[name] = found[i] if i < len(found) else Unknown()

    def _results(self, node: OnnxNode, readers: Mapping[str, Any]) -> Sequence[Tensor]:
        read = readers.get(node.operator)
        xs = [self.tensors[name] if name else None for name in node.inputs]
        constant = all(x is None or isinstance(x, np.ndarray) for x in xs)
        folded = node.operator in fold.FOLDED and (constant or node.operator in SHAPES)
        if read is None and not folded:
            raise Unreadable("pycnn has no such operator")
        if any(isinstance(x, Unknown) for x in xs):
            return ()
        if folded:
            return fold.fold(node, xs)
        if constant or read is None:
            raise Unreadable("it reads nothing but constants, and pycnn does not compute it then")
        ys = read(self)
        for name in node.outputs[len(ys) if isinstance(ys, (list, tuple)) else 1 :]:
            if name and self.uses[name]:
                raise Unreadable(f"its result {name!r} is read, which pycnn does not compute")
        return ys if isinstance(ys, (list, tuple)) else [ys]

    # ---- what a node reads ---------------------------------------------------------------

    def tensor(self, i: int) -> Tensor:
        """Input i, a View or an array; None where it is left out."""
        names = self.node.inputs
        return self.tensors[names[i]] if i < len(names) and names[i] else None

    def view(self, i: int = 0) -> View:
        """Input i, which is computed from the images."""
        x = self.tensor(i)
        if not isinstance(x, View):
            raise Unreadable(f"its input {i} is a constant; expected what images are computed to")
        return x

    def maybe(self, i: int) -> Array | None:
        """Input i, a constant, or None where it is left out."""
        x = self.tensor(i)
        if isinstance(x, View):
            raise Unreadable(
                f"its input {i}, {self.node.inputs[i]!r}, is computed; expected a constant"
            )
        return x  # type: ignore[no-any-return]

    def constant(self, i: int) -> Array:
        """Input i, a constant."""
        x = self.maybe(i)
        if x is None:
            raise Unreadable(f"its input {i} is left out; expected a constant")
        return x

    def floats(self, i: int) -> Array:
        """Input i, a constant of float32."""
        x = self.constant(i)
        if x.dtype != np.float32:
            raise Unreadable(f"its input {i} is {x.dtype}; expected float32")
        return x

    def whole(self, i: int) -> tuple[int, ...]:
        """Input i, a constant of whole numbers."""
        return tuple(int(n) for n in self.constant(i).reshape(-1))

    @property
    def once(self) -> bool:
        """Whether nobody else reads what the node reads of computed tensors."""
        names = [n for n in self.node.inputs if isinstance(self.tensors.get(n), View)]
        return all(self.uses[name] == 1 for name in names)

    # ---- what it makes --------------------------------------------------------------------

    def emit(self, kind: str, arguments: Sequence[Any], *values: Value) -> Any:
        """A layer without parameters, called."""
        return self.call(self.make(kind, *arguments), *values)

    def make(self, kind: str, *arguments: Any, **options: Any) -> Layer:
        """A layer of `pycnn.layers`."""
        layer = getattr(layers, kind, None)
        if layer is None:
            raise Unreadable(f"pycnn.layers has no {kind}")
        return layer(*arguments, **options)  # type: ignore[no-any-return]

    def filled(
        self, kind: str, *arguments: Any, arrays: Mapping[str, Array | None], **options: Any
    ) -> Layer:
        """A layer of `pycnn.layers` with parameters, which have the values of `arrays`."""
        layer = (
            self.make(kind, *arguments, **options, rng=init.BLANK)
            if kind in DRAWN
            else (self.make(kind, *arguments, **options))
        )
        layer.load_state_dict({k: a for k, a in arrays.items() if a is not None})
        return layer

    def call(self, layer: Layer, *values: Value, like: str = "") -> Any:
        """layer(*values); like: the name of an array that the layer holds, for its own name."""
        if id(layer) not in self._named:
            self._named[id(layer)] = name = self._name(layer, like)
            self.names[name] = layer
        return layer(*values)

    def rename(self, old: Layer, new: Layer) -> None:
        """Let a layer that takes another's place have its name."""
        name = self._named.pop(id(old))
        self.names[name] = new
        self._named[id(new)] = name

    def arrange(self, view: View, order: Sequence[int | None]) -> Value:
        """See `views.lay`."""
        return lay(self.emit, view, order)

    def regroup(self, view: View, new: Sequence[int]) -> View:
        """See `views.regroup`."""
        return regroup(self.emit, view, new)

    def channels_last(self, view: View, count: int = 1) -> tuple[Value, list[int] | None, View]:
        """See `views.channels_last`."""
        return channels_last(self.emit, view, count)

    def _name(self, layer: Layer, like: str) -> str:
        stem, _, end = like.rpartition(".")
        name = stem if end in ENDINGS and PATH.fullmatch(stem) else ""
        if not name:
            name = _path(self.node.name) or self.node.operator
            if not next(iter(layer.named_parameters()), None) and type(layer).__name__ in MOVES:
                name = f"{name}.{type(layer).__name__}"
        unique = name
        for count in range(2, len(self.names) + 3):
            if unique not in self.names:
                break
            unique = f"{name}_{count}"
        return unique


SHAPES = ("Shape", "Size")  # need no numbers
DRAWN = ("Conv1d", "Conv2d", "ConvTranspose2d", "Linear")  # layers that draw their weights
ENDINGS = ("weight", "bias", "running_mean", "running_var", "gamma", "beta", "kernel")
MOVES = ("Permute", "Reshape")  # come with what another operator asks for
PATH = re.compile(r"\w+(\.\w+)*")


def _path(name: str) -> str:
    """A node's name as a path of attributes: "/layer1/layer1.0/conv1/Conv" -> "layer1.0.conv1"."""
    parts: list[str] = []
    for text in name.split("/"):
        part = re.sub(r"[^\w.]+", "_", text).strip("._")
        if parts and part.startswith(f"{parts[-1]}."):
            parts[-1] = part  # of a list of layers: its name begins with the list's
        elif part:
            parts.append(part)
    if len(parts) > 1 and re.fullmatch(
        r"(Conv|ConvTranspose|Gemm|MatMul|\w+Normalization)(_\d+)?", parts[-1]
    ):
        parts.pop()
    return re.sub(r"\.+", ".", ".".join(parts))
