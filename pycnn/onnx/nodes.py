"""An ONNX file as plain data: inputs, nodes with Python's attributes, and arrays by name."""

from __future__ import annotations

import contextlib
import copy
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pycnn._formats.files import FileError, FilePath, file_path
from pycnn._runtime.extras import need
from pycnn.ops.arrays import Array

# Stand for N where it is free: primes, so that no product hides them. The second one is for graphs
# that count the images one by one.
BATCH, FEWER = 1000003, 10007
FREE = 224  # stands for another extent that is free


class OnnxNode:
    """One call of an operator; `where` is how sentences name it."""

    __slots__ = ("attributes", "index", "inputs", "name", "operator", "outputs")

    def __init__(
        self,
        index: int,
        name: str,
        operator: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        attributes: Mapping[str, Any],
    ) -> None:
        """inputs, outputs: names, "" for one that is left out."""
        self.index, self.name, self.operator = index, name, operator
        self.inputs, self.outputs = list(inputs), list(outputs)
        self.attributes = dict(attributes)

    @property
    def where(self) -> str:
        """For example `node 3 'conv1' (Conv)`."""
        return f"node {self.index} {self.name!r} ({self.operator})"

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)


class OnnxInput:
    """An input: extents are None where they are free; `shape` has numbers in their place."""

    __slots__ = ("extents", "is_float", "name", "stand_in")

    def __init__(self, name: str, is_float: bool, extents: tuple[int | None, ...] | None) -> None:
        """extents: None where the file does not say how many axes there are."""
        self.name, self.is_float, self.extents = name, is_float, extents
        self.stand_in = BATCH

    @property
    def shape(self) -> tuple[int, ...]:
        """With `stand_in` and FREE for what is free."""
        assert self.extents is not None
        stand_ins = self.stand_in, *(FREE,) * len(self.extents)
        return tuple(
            free if n is None else n for n, free in zip(self.extents, stand_ins, strict=False)
        )


class OnnxGraph:
    """What an import reads: `constants` are the arrays of the file by name."""

    def __init__(
        self,
        inputs: Sequence[OnnxInput],
        outputs: Sequence[str],
        nodes: Sequence[OnnxNode],
        constants: Mapping[str, Array],
        opset: int,
        class_names: Any = None,
    ) -> None:
        """Nodes in the order of the file, each behind those that it needs."""
        self.inputs, self.outputs, self.nodes = list(inputs), list(outputs), list(nodes)
        self.constants, self.opset, self.class_names = dict(constants), opset, class_names

    def copy(self) -> OnnxGraph:
        """A graph of its own, of the same arrays."""
        twin = copy.copy(self)
        twin.inputs, twin.nodes = copy.deepcopy(self.inputs), copy.deepcopy(self.nodes)
        twin.outputs, twin.constants = list(self.outputs), dict(self.constants)
        return twin

    def uses(self) -> Counter[str]:
        """How often each array is read, as an output too."""
        return Counter([*self.outputs, *(name for node in self.nodes for name in node.inputs)])


def load(path: FilePath) -> OnnxGraph:
    """The graph of a file that onnx.checker accepts."""
    onnx = need("onnx", "onnx", "import_onnx")
    if not file_path(path).is_file():
        raise FileError(f"{path}: cannot read: there is no such file.")
    try:
        proto = onnx.load(str(path))
        large = _apart(proto)
        # Before version 4 arrays had to be inputs as well, which few programs mind.
        proto.ir_version = max(proto.ir_version, 4)
        onnx.checker.check_model(proto)
        return graph_of(onnx, proto, large)
    except OSError as error:
        raise FileError(f"{path}: cannot read: {error.strerror or error}.") from error
    except Exception as error:  # of protobuf or onnx.checker, which have no common class
        first = str(error).strip().partition("\n")[0]
        raise FileError(f"{path}: this is no valid ONNX file: {first}") from error


def _apart(proto: Any) -> dict[str, Array]:
    """The large arrays, taken out of the model: onnx.checker writes all of it out again.

    What it would have said of them is looked at here: as many numbers as the shape says.
    """
    large = {}
    for tensor in proto.graph.initializer:
        size = math.prod(tensor.dims)
        if tensor.data_type != 1 or size < 1024 or not tensor.HasField("raw_data"):
            continue
        data = tensor.raw_data
        if len(data) == 4 * size:
            large[tensor.name] = np.frombuffer(data, "<f4").reshape(tensor.dims)
            del tensor.dims[:]
            tensor.dims.append(1)
            tensor.raw_data = bytes(4)
    return large


def graph_of(onnx: Any, proto: Any, large: Mapping[str, Array]) -> OnnxGraph:
    """The graph of a ModelProto; large: arrays that are no longer in it."""
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    graph, read = proto.graph, onnx.numpy_helper.to_array
    constants = {t.name: large[t.name] if t.name in large else read(t) for t in graph.initializer}
    for sparse in graph.sparse_initializer:
        constants.pop(sparse.values.name, None)
    opset = max((i.version for i in proto.opset_import if i.domain in ("", "ai.onnx")), default=1)
    return OnnxGraph(
        [_input(onnx, i) for i in graph.input if i.name not in constants],
        [output.name for output in graph.output],
        [_node(onnx, i, node) for i, node in enumerate(graph.node)],
        constants,
        opset,
        _class_names(proto),
    )


def _class_names(proto: Any) -> Any:
    for entry in proto.metadata_props:
        if entry.key == "class_names":
            # Another program's entry of that name may be anything, and is no part of the graph.
            with contextlib.suppress(ValueError):
                return json.loads(entry.value)
    return None


def _input(onnx: Any, value: Any) -> OnnxInput:
    kind = value.type.tensor_type
    extents = None
    if kind.HasField("shape"):
        extents = tuple(
            d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None
            for d in kind.shape.dim
        )
    return OnnxInput(value.name, kind.elem_type == onnx.TensorProto.FLOAT, extents)


def _node(onnx: Any, index: int, node: Any) -> OnnxNode:
    operator = node.op_type
    if node.domain not in ("", "ai.onnx"):
        operator = f"{node.domain}.{operator}"
    attributes = {a.name: _attribute(onnx, a) for a in node.attribute}
    return OnnxNode(index, node.name, operator, node.input, node.output, attributes)


def _attribute(onnx: Any, attribute: Any) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.type == onnx.AttributeProto.TENSOR:
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
        return tuple(value)
    return value
