"""`export_onnx`: a model's function in eval mode as an ONNX graph.

Inputs and outputs of the graph are the model's, NHWC. Inside it computes in NCHW: one Transpose
after an input, one before an output that is an image, and none between. A Flatten gives NCHW's
order there, so the weight of the Linear behind it is re-ordered instead.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

import pycnn
from pycnn._formats import layout as _layout
from pycnn._formats.files import FilePath, file_path, replacing
from pycnn._runtime.extras import need
from pycnn.graph.program import Program
from pycnn.graph.values import Node, Shape, Value
from pycnn.layers import (
    Add,
    Affine,
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Module,
    Multiply,
    ReLU,
    Split,
    Subtract,
)
from pycnn.ops.arrays import Array, four_sided, kind_of

OPSET, IR_VERSION = 17, 8  # of 2022: every runtime of today reads them
TO_NCHW, TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]
# Layers that are one operator without attributes.
OPERATORS: dict[type, str] = {
    Add: "Add", Concat: "Concat", GlobalAvgPool2d: "GlobalAveragePool", Multiply: "Mul",
    ReLU: "Relu", Subtract: "Sub",
}  # fmt: skip


def export_onnx(
    model: Module,
    path: FilePath,
    input_shape: tuple[int | None, ...] = (None, 28, 28, 1),
    *more: tuple[int | None, ...],
) -> None:
    """Write the model's function in eval mode to an ONNX file, opset 17.

    The graph takes "images", float32 of input_shape (N is free where it is None) in 0 .. 1, applies
    `model.normalization`, and gives "output", what `model.eval()(model.normalization(images))`
    gives, to rounding. "same" padding becomes explicit pads for this input_shape; Dropout is left
    out. The file is checked by onnx.checker, and whole or not written at all.

    Networks of several inputs (one shape each: input_shape, *more) and outputs call them "input0",
    "input1", ..., "output0", ..., and do not normalise.

    Raises ImportError without onnx (extra "onnx"), TypeError for a float64 model and a kind of
    layer that ONNX files cannot hold here, ValueError for an input_shape that a layer refuses,
    FileError for a file that cannot be written.
    """
    onnx = need("onnx", "onnx", "export_onnx")
    if not isinstance(model, Module):
        raise TypeError(
            f"export_onnx: model is {kind_of(model)}; expected a Sequential, or another "
            "layers.Module."
        )
    for parameter in model.parameters():
        if parameter.data.dtype != np.float32:
            raise TypeError(
                f"export_onnx: {parameter.name} is {parameter.data.dtype}; expected float32: write "
                "model.astype(np.float32)."
            )
    file_path(path)
    proto = _Exporter(onnx, model, (tuple(input_shape), *more)).model()
    onnx.checker.check_model(proto, full_check=True)
    with replacing(path) as file:
        file.write(proto.SerializeToString(deterministic=True))


class _Exporter:
    """The nodes and arrays of one graph, in order.

    Each value of the program is an ONNX name and a layout: "nchw" for images, "nhwc" for those that
    nothing has turned yet, "flat" for a flattened NCHW image on its way to a Linear, and "plain".
    """

    def __init__(
        self, onnx: Any, model: Module, input_shape: tuple[tuple[int | None, ...], ...]
    ) -> None:
        self.onnx, self.network, self.input_shape = onnx, model, input_shape
        self.nodes: list[Any] = []
        self.arrays: dict[str, Array] = {}
        self.program = _eval_program(model, input_shape)
        self.names: dict[int, str] = {}
        self.layouts: dict[int, str] = {}
        self.turned: dict[int, str] = {}  # images as NCHW, where they were NHWC
        self.channels = _layout.linear_channels("export_onnx", self.program)

    def model(self) -> Any:
        helper = self.onnx.helper
        inputs = [self._input(i, x) for i, x in enumerate(self.program.inputs)]
        for node in self.program.nodes:
            self._node_of(node)
        outputs = [self._output(j, y) for j, y in enumerate(self.program.outputs)]
        arrays = [self.onnx.numpy_helper.from_array(a, name) for name, a in self.arrays.items()]
        graph = helper.make_graph(self.nodes, "pycnn", inputs, outputs, arrays)
        proto = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="pycnn",
            producer_version=pycnn.__version__,
        )
        if self.network.class_names is not None:
            names = json.dumps(self.network.class_names, ensure_ascii=False)
            helper.set_model_props(proto, {"class_names": names})
        return proto

    def _info(self, name: str, shape: tuple[Any, ...]) -> Any:
        return self.onnx.helper.make_tensor_value_info(name, self.onnx.TensorProto.FLOAT, shape)

    def _batch(self, extent: int) -> int | str:
        return "N" if self.input_shape[0][0] is None else extent

    def _input(self, i: int, x: Value) -> Any:
        name = "images" if len(self.program.inputs) == 1 else f"input{i}"
        shape = x.full_shape
        self._give(x, name, "nhwc" if len(shape) == 4 else "plain")
        normalization = self.network.normalization
        if not normalization.is_identity and len(self.program.inputs) == 1:
            normalization(np.zeros((1, *shape[1:]), np.float32))  # refuses other channels
            mean, std = _vector(normalization.mean), _vector(normalization.std)
            self._on(x, "Sub", "minus_mean", self._array("mean", mean))
            self._on(x, "Div", "normalized", self._array("std", std))
        if len(shape) == 4:
            self._give(x, self._nchw(x), "nchw")
        return self._info(name, (self._batch(shape[0]), *self.input_shape[i][1:]))

    def _output(self, j: int, y: Value) -> Any:
        name = "output" if len(self.program.outputs) == 1 else f"output{j}"
        if self.layouts[id(y)] == "nchw":
            self._append("Transpose", [self.names[id(y)]], [name], perm=TO_NHWC)
        elif self.nodes and list(self.nodes[-1].output) == [self.names[id(y)]]:
            self.nodes[-1].output[0] = name
            self.names[id(y)] = name
        else:
            self._append("Identity", [self.names[id(y)]], [name])
        return self._info(name, (self._batch(y.full_shape[0]), *y.full_shape[1:]))

    def _give(self, value: Value, name: str, layout: str) -> None:
        self.names[id(value)], self.layouts[id(value)] = name, layout

    def _append(
        self, operator: str, inputs: list[str], outputs: list[str], **attributes: Any
    ) -> None:
        make = self.onnx.helper.make_node
        self.nodes.append(make(operator, inputs, outputs, name=outputs[0], **attributes))

    def _on(self, value: Value, operator: str, name: str, *arrays: str) -> None:
        """An operator whose result takes the value's place."""
        self._append(operator, [self.names[id(value)], *arrays], [name])
        self.names[id(value)] = name

    def _array(self, name: str, array: Any) -> str:
        self.arrays[name] = np.ascontiguousarray(array)
        return name

    def _floats(self, name: str, array: Any) -> str:
        return self._array(name, np.asarray(array, np.float32))

    def _nchw(self, value: Value) -> str:
        """The name of an image in NCHW."""
        if self.layouts[id(value)] == "nchw":
            return self.names[id(value)]
        if id(value) not in self.turned:
            name = f"to_nchw{len(self.turned) or ''}"
            self._append("Transpose", [self.names[id(value)]], [name], perm=TO_NCHW)
            self.turned[id(value)] = name
        return self.turned[id(value)]

    def _taken(self, value: Value) -> str:
        """The name of an operand: an image in NCHW, anything else as it is."""
        return self._nchw(value) if value.ndim == 4 else self.names[id(value)]

    def _node_of(self, node: Node) -> None:
        layer, x, y = node.operation, node.inputs[0], node.outputs[0]
        name = f"{node.name}.{node.kind}" if node.name else node.kind
        taken = {output for made in self.nodes for output in made.output}
        unique = name
        for count in range(2, len(self.nodes) + 3):
            if unique not in taken:
                break
            unique = f"{name}_{count}"
        if isinstance(layer, Dropout):
            self._give(y, self.names[id(x)], self.layouts[id(x)])
            if id(x) in self.turned:
                self.turned[id(y)] = self.turned[id(x)]
            return
        if isinstance(layer, Flatten):
            self._flatten(node, unique)
            return
        if isinstance(layer, Linear):
            self._linear(node, unique)
            return
        operator, arrays, attributes = self._operator(node)
        inputs = [*map(self._taken, node.inputs), *arrays]
        image = x.ndim == 4
        if isinstance(layer, (Concat, Split)):
            axis = layer.axis % x.ndim
            attributes["axis"] = (0, 2, 3, 1)[axis] if image else axis
        if isinstance(layer, Split):
            outputs = [f"{unique}_{k}" for k in range(layer.results)]
            self._append(operator, inputs, outputs, **attributes)
            for value, output in zip(node.outputs, outputs, strict=True):
                self._give(value, output, "nchw" if image else "plain")
            return
        self._append(operator, inputs, [unique], **attributes)
        layout = self.layouts[id(x)]
        self._give(y, unique, "nchw" if image else layout)
        if isinstance(layer, GlobalAvgPool2d):
            self._on(y, "Flatten", f"{unique}_flat")
            self.nodes[-1].attribute.append(self.onnx.helper.make_attribute("axis", 1))
            self.layouts[id(y)] = "plain"
        if isinstance(layer, Affine):
            shift = self._floats(f"{unique}_shift", layer.shift)
            self._on(y, "Add", f"{unique}_shifted", shift)

    def _operator(self, node: Node) -> tuple[str, list[str], dict[str, Any]]:
        """(ONNX's operator, its constant inputs, its attributes)."""
        layer, name = node.operation, node.name
        x, y = node.inputs[0].full_shape, node.outputs[0].full_shape
        if isinstance(layer, Conv2d):
            weight = self._array(f"{name}.weight", _layout.conv_to_oihw(layer.weight.data))
            window = _window(layer.kernel_size, layer.stride, layer.padding, x, y, layer.dilation)
            window |= {"dilations": layer.dilation, "group": layer.groups}
            return "Conv", [weight, *self._bias(name, layer)], window
        if isinstance(layer, (MaxPool2d, AvgPool2d)):
            window = _window(layer.kernel_size, layer.stride, layer.padding, x, y)
            if isinstance(layer, MaxPool2d):
                return "MaxPool", [], window
            count = int(layer.count_include_pad)
            return "AveragePool", [], {"count_include_pad": count, **window}
        if isinstance(layer, BatchNorm2d):
            state = layer.state_dict()
            arrays = [
                self._array(f"{name}.{key}", state[key])
                for key in ("weight", "bias", "running_mean", "running_var")
            ]
            return "BatchNormalization", arrays, {"epsilon": layer.eps}
        if isinstance(layer, Affine):
            return "Mul", [self._floats(f"scale_{len(self.nodes)}", layer.scale)], {}
        if isinstance(layer, Split):
            return (
                "Split",
                [self._array(f"sizes_{len(self.nodes)}", np.asarray(layer.sizes, np.int64))],
                {},
            )
        if type(layer) in OPERATORS:
            return OPERATORS[type(layer)], [], {}
        raise TypeError(
            f"export_onnx: {node.label} has no ONNX operator here; expected layers of pycnn.layers."
        )

    def _bias(self, name: str, layer: Conv2d | Linear) -> list[str]:
        return [] if layer.bias is None else [self._array(f"{name}.bias", layer.bias.data)]

    def _linear(self, node: Node, unique: str) -> None:
        layer, name, x = node.operation, node.name, node.inputs[0]
        flat = self.layouts[id(x)] == "flat"
        weight = _layout.linear_to_nchw(
            layer.weight.data, self.channels[id(node)] if flat else None
        )
        key = f"{unique}.weight" if flat else f"{name}.weight"
        arrays = [self._array(key, weight), *self._bias(name, layer)]
        self._append("Gemm", [self.names[id(x)], *arrays], [unique], transB=1)
        self._give(node.outputs[0], unique, "plain")

    def _flatten(self, node: Node, unique: str) -> None:
        x, y = node.inputs[0], node.outputs[0]
        image = self.layouts[id(x)] == "nchw" or id(x) in self.turned
        flat = image and self._only_linear_follows(y)
        source = self._nchw(x) if flat else self.names[id(x)]
        if not flat and self.layouts[id(x)] == "nchw":
            source = f"{unique}_nhwc"  # what follows cannot be re-ordered
            self._append("Transpose", [self.names[id(x)]], [source], perm=TO_NHWC)
        self._append("Flatten", [source], [unique], axis=1)
        self._give(y, unique, "flat" if flat else "plain")

    def _only_linear_follows(self, value: Value) -> bool:
        """Whether all that reads it is Linear, perhaps behind relu and dropout."""
        if any(value is y for y in self.program.outputs):
            return False
        readers = [n for n in self.program.nodes if any(value is x for x in n.inputs)]
        return all(
            isinstance(n.operation, Linear)
            or (
                isinstance(n.operation, (ReLU, Dropout)) and self._only_linear_follows(n.outputs[0])
            )
            for n in readers
        )


def _eval_program(model: Module, input_shape: tuple[tuple[int | None, ...], ...]) -> Program:
    modes = [(layer, layer.training) for _, layer in model.named_layers()]
    try:
        return model.eval().program(*input_shape)
    finally:
        for layer, training in modes:
            layer.training = training


def _window(
    kernel: Shape, stride: Shape, padding: Any, x: Shape, y: Shape, dilation: Shape = (1, 1)
) -> dict[str, Any]:
    sides = four_sided(padding, "export_onnx")
    if sides is None:  # SAME: what y needs beyond x, the odd pixel at the end
        read = [
            (out - 1) * s + d * (k - 1) + 1
            for out, s, d, k in zip(y[1:3], stride, dilation, kernel, strict=True)
        ]
        total = [max(n - size, 0) for n, size in zip(read, x[1:3], strict=True)]
        (top, left), (bottom, right) = (n // 2 for n in total), (n - n // 2 for n in total)
    else:
        top, bottom, left, right = sides
    return {"kernel_shape": kernel, "strides": stride, "pads": (top, left, bottom, right)}


def _vector(value: float | tuple[float, ...]) -> Array:
    """() or [C]."""
    return np.asarray(value, np.float32)
