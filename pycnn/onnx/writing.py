"""The nodes and arrays of an ONNX graph that is being written, and how its tensors lie."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

import pycnn
from pycnn._formats import layout
from pycnn.graph.program import Program
from pycnn.graph.values import Node, Value
from pycnn.ops.arrays import Array

IR_VERSION = 8  # of 2022
# From channels last to channels first and back, by the number of axes.
TO_FIRST = {3: (0, 2, 1), 4: (0, 3, 1, 2)}
TO_LAST = {3: (0, 2, 1), 4: (0, 2, 3, 1)}


class Writing:
    """The nodes and arrays of one graph, in order.

    Each value of the program has a name for each layout in which it is there: "last", the value's
    own axes; "first", [N, C, H, W] or [N, C, L]; "flat", a flattened [N, C, H, W] on its way to a
    Linear, whose weight is re-ordered.
    """

    def __init__(self, onnx: Any, program: Program, free: bool) -> None:
        """free: whether N is."""
        self.onnx, self.program, self.free = onnx, program, free
        self.nodes: list[Any] = []
        self.arrays: dict[str, Array] = {}
        self.names: dict[int, dict[str, str]] = {}
        self.channels = layout.linear_channels("export_onnx", program)
        self._taken: set[str] = set()
        self._base = ""
        self._turned = 0

    # ---- the graph ---------------------------------------------------------------------------

    def model(self, inputs: list[Any], outputs: list[Any], opset: int, class_names: Any) -> Any:
        """A ModelProto of all of it."""
        helper = self.onnx.helper
        arrays = [self.onnx.numpy_helper.from_array(a, name) for name, a in self.arrays.items()]
        graph = helper.make_graph(self.nodes, "pycnn", inputs, outputs, arrays)
        proto = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=IR_VERSION,
            producer_name="pycnn",
            producer_version=pycnn.__version__,
        )
        if class_names is not None:
            names = json.dumps(class_names, ensure_ascii=False)
            helper.set_model_props(proto, {"class_names": names})
        return proto

    def info(self, name: str, shape: tuple[Any, ...]) -> Any:
        """An input or output."""
        return self.onnx.helper.make_tensor_value_info(name, self.onnx.TensorProto.FLOAT, shape)

    def batch(self, extent: int) -> int | str:
        """N as an extent."""
        return "N" if self.free else extent

    def readers(self, name: str) -> int:
        """How many nodes read an array."""
        return sum(name in node.input for node in self.nodes)

    # ---- nodes and arrays ----------------------------------------------------------------------

    def begin(self, node: Node) -> None:
        """What follows is called after this call."""
        self._base = f"{node.name}.{node.kind}" if node.name else node.kind

    def unique(self, name: str) -> str:
        """The name, or with a number."""
        found, count = name, 2
        while found in self._taken:
            found, count = f"{name}_{count}", count + 1
        self._taken.add(found)
        return found

    def node(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """A node of one result with this very name."""
        self._taken.add(name)
        made = self.onnx.helper.make_node(operator, inputs, [name], name=name, **attributes)
        self.nodes.append(made)
        return name

    def op(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        """A node of one result, called after the layer that is being written."""
        return self.node(operator, inputs, self.unique(self._base), **attributes)

    def several(self, operator: str, inputs: list[str], count: int, **attributes: Any) -> list[str]:
        """A node of several results."""
        base = self.unique(self._base)
        names = [self.unique(f"{base}_{k}") for k in range(count)]
        made = self.onnx.helper.make_node(operator, inputs, names, name=base, **attributes)
        self.nodes.append(made)
        return names

    def array(self, name: str, array: Any) -> str:
        """A constant; one of the same name and numbers is there once."""
        held = np.ascontiguousarray(array)
        held = held.reshape(np.shape(array))
        found, count = name, 2
        while found in self.arrays and not (
            self.arrays[found].shape == held.shape and np.array_equal(self.arrays[found], held)
        ):
            found, count = f"{name}_{count}", count + 1
        self.arrays[found] = held
        return found

    def held(self, node: Node, key: str, array: Any) -> str:
        """An array of a layer, called as in the model's state."""
        base = node.name if node.name and node.in_model else self._base
        return self.array(f"{base}.{key}", np.asarray(array, np.float32))

    def floats(self, name: str, numbers: Any) -> str:
        """A constant of float32."""
        return self.array(name, np.asarray(numbers, np.float32))

    def number(self, number: float) -> str:
        """A constant of one number, called by it."""
        return self.floats(f"number_{number:.9g}", number)

    def whole(self, *numbers: int) -> str:
        """A constant of whole numbers, called by them."""
        return self.array(f"whole_{'_'.join(map(str, numbers))}", np.array(numbers, np.int64))

    # ---- layouts -------------------------------------------------------------------------------

    def give(self, value: Value, name: str, kind: str) -> None:
        """The value lies in this array, in this layout."""
        self.names.setdefault(id(value), {})[kind] = name

    def same(self, y: Value, x: Value) -> None:
        """Y is x."""
        self.names[id(y)] = self.names[id(x)]

    def renamed(self, old: str, new: str) -> None:
        """An array has another name, in each value that lies in it."""
        for kinds in self.names.values():
            kinds |= {kind: new for kind, name in kinds.items() if name == old}

    def layout(self, *values: Value) -> str:
        """In which layout what reads any reads these: "first" if one of them is an image in it."""
        kinds = [self.names[id(value)] for value in values]
        if len(values) == 1 and "flat" in kinds[0]:
            return "flat"
        return "first" if any("first" in kind and "last" not in kind for kind in kinds) else "last"

    def take(self, value: Value, kind: str) -> str:
        """The name of a value in a layout; where it is not there, a Transpose comes in."""
        names = self.names[id(value)]
        if kind not in names and value.ndim not in TO_FIRST:
            return next(iter(names.values()))
        if kind not in names:
            perm = (TO_FIRST if kind == "first" else TO_LAST)[value.ndim]
            name = self.unique("to_nchw" if kind == "first" else "to_nhwc")
            (source,) = names.values()
            names[kind] = self.node("Transpose", [source], name, perm=perm)
        return names[kind]

    def axis(self, value: Value, axis: int, kind: str) -> int:
        """Axis `axis` of a value in a layout."""
        axis %= value.ndim
        return TO_FIRST[value.ndim].index(axis) if kind == "first" else axis

    def vector(self, value: Value, array: Array, kind: str) -> Array:
        """Numbers for the last axis, so that they broadcast in a layout."""
        return array.reshape(-1, *(1,) * (value.ndim - 2)) if kind == "first" else array
