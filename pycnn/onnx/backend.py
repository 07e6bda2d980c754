"""pycnn as a backend of the `onnx` package: `prepare`, `run_model`, `supports_device`.

Inputs and results are ONNX's own, in its axes. Inputs that an operator takes as parameters (the
weight of a Conv, the shape of a Reshape) become constants at each run; where a graph has no axis of
images, all of its inputs are one image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pycnn._formats.files import FileError
from pycnn._runtime.extras import need
from pycnn.layers import Graph
from pycnn.onnx import fold
from pycnn.onnx._import import Importer
from pycnn.onnx.nodes import OnnxGraph, graph_of
from pycnn.onnx.operators import OPERATORS
from pycnn.onnx.views import View
from pycnn.ops.arrays import Array

NAME = "model"  # in sentences


class Prepared:
    """A model that runs: `run(inputs)`."""

    def __init__(self, graph: OnnxGraph) -> None:
        """Networks are made when their inputs are known."""
        self.graph = graph
        self._parameters = _parameters(graph)
        self._last: tuple[Any, Any] | None = None

    def run(self, inputs: Sequence[Array] | Mapping[str, Array], **_: Any) -> tuple[Array, ...]:
        """The graph's outputs, in their order."""
        names = [given.name for given in self.graph.inputs]
        arrays = dict(inputs) if isinstance(inputs, Mapping) else dict(
            zip(names, inputs, strict=False))  # fmt: skip
        held = {n: a for n, a in arrays.items() if self._is_constant(n, np.asarray(a))}
        computed = {n: np.asarray(a) for n, a in arrays.items() if n not in held}
        key = [(n, a.shape) for n, a in computed.items()]
        if self._last is None or held or self._last[0] != key:
            self._last = key, self._made(held, computed)
        return self._last[1](computed)  # type: ignore[no-any-return]

    def _is_constant(self, name: str, array: Array) -> bool:
        if array.dtype != np.float32 or name in self._parameters:
            return True
        return all(
            node.operator in fold.FOLDED and node.operator not in OPERATORS
            for node in self.graph.nodes
        )

    def _made(self, held: Mapping[str, Array], computed: Mapping[str, Array]) -> Any:
        errors = []
        for whole in (False, True):
            if not whole and (not computed or any(a.ndim < 2 for a in computed.values())):
                continue
            try:
                return _Network(self._graph(held, computed), whole)
            except FileError as error:
                errors.append(error)
        raise errors[-1]

    def _graph(self, held: Mapping[str, Array], computed: Mapping[str, Array]) -> OnnxGraph:
        graph = self.graph.copy()
        graph.constants |= {name: np.asarray(array) for name, array in held.items()}
        graph.inputs = [given for given in graph.inputs if given.name in computed]
        for given in graph.inputs:
            given.extents = computed[given.name].shape
        return graph


class _Network:
    """A graph for inputs of certain shapes."""

    def __init__(self, graph: OnnxGraph, whole: bool) -> None:
        self.importer = Importer(graph, NAME, softmax=True, whole=whole, normalize=False)
        reading = self.importer.read()
        self.names = list(graph.outputs)
        self.known = {
            name: reading.tensors[name]
            for name in self.names
            if isinstance(reading.tensors.get(name), np.ndarray)
        }
        rest = [name for name in self.names if name not in self.known]
        self.network: Graph | None = self.importer.network(rest) if rest else None

    def __call__(self, arrays: Mapping[str, Array]) -> tuple[Array, ...]:
        found = dict(self.known)
        if self.network is not None:
            graph = self.importer.graph
            xs = [
                self.importer.given(i, arrays[given.name]) for i, given in enumerate(graph.inputs)
            ]
            ys = self.network(*xs)
            rest = [name for name in self.names if name not in self.known]
            for name, y, (view, order) in zip(
                rest, ys if isinstance(ys, tuple) else (ys,), self.importer.outputs, strict=True
            ):
                found[name] = as_onnx(y, view, order)
        return tuple(found[name] for name in self.names)


def as_onnx(y: Array, view: View, order: Sequence[int | None]) -> Array:
    """What a network gives for an output, in ONNX's axes."""
    named = [o for o in order if o is not None]
    y = y.reshape([n for n, o in zip(y.shape, order, strict=True) if o is not None])
    y = y.transpose([named.index(o) for o in sorted(named)])
    N = y.shape[0]
    return y.reshape([N if 0 in axis else n for axis, n in zip(view.axes, view.shape, strict=True)])


def _parameters(graph: OnnxGraph) -> set[str]:
    """The inputs that some operator takes as parameters."""
    return {
        name
        for node in graph.nodes
        for i, name in enumerate(node.inputs)
        if node.operator in OPERATORS and i in OPERATORS[node.operator].parameters
    }


def prepare(model: Any, device: str = "CPU", **_: Any) -> Prepared:
    """A ModelProto as something that runs; FileError where a node is not known comes at the run."""
    onnx = need("onnx", "onnx", "pycnn.onnx.backend")
    if not supports_device(device):
        raise ValueError(f"prepare: device is {device!r}; expected 'CPU'.")
    return Prepared(graph_of(onnx, model, {}))


def run_model(model: Any, inputs: Sequence[Array], device: str = "CPU", **_: Any) -> Any:
    """The outputs of a ModelProto for these inputs."""
    return prepare(model, device).run(inputs)


def supports_device(device: str) -> bool:
    """Only the CPU."""
    return device == "CPU"


def is_compatible(model: Any, device: str = "CPU", **_: Any) -> bool:
    """Whether `run` may be tried."""
    return supports_device(device)
