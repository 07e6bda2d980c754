"""`export_onnx`: a model's function in eval mode as an ONNX graph.

The graph's input and output are the model's, NHWC. Inside it computes in ONNX's NCHW: one Transpose
after the input, one before an output that is an image, and none between. A Flatten gives NCHW's
order there, so the weight of the Linear behind it is re-ordered instead.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

import pycnn
from pycnn._formats import layout as _layout
from pycnn._formats.files import FilePath, replacing
from pycnn._runtime.extras import need
from pycnn.layers import summary
from pycnn.layers.base import Layer
from pycnn.layers.conv import Conv2d
from pycnn.layers.linear import Flatten, Linear
from pycnn.layers.pool import AvgPool2d, MaxPool2d
from pycnn.layers.run import Shape
from pycnn.layers.sequential import Sequential
from pycnn.ops.arrays import Array, four_sided, kind_of

OPSET, IR_VERSION = 17, 8  # of 2022: every runtime of today reads them
TO_NCHW, TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]
FLAT_KINDS = ("Flatten", "Dropout", "ReLU")  # what may stand between a Flatten and its Linear


def export_onnx(
    model: Sequential, path: FilePath, input_shape: tuple[int | None, ...] = (None, 28, 28, 1)
) -> None:
    """Write the model's function in eval mode to an ONNX file, opset 17.

    The graph takes "images", float32 of input_shape (N is free where it is None) in 0 .. 1, applies
    `model.normalization`, and gives "output", what `model.eval()(model.normalization(images))`
    gives, to rounding. "same" padding becomes explicit pads for this input_shape; Dropout is left
    out. The file is checked by onnx.checker, and whole or not written at all.

    Raises ImportError without onnx (extra "onnx"), TypeError for a float64 model and a kind of
    layer that ONNX files cannot hold here, ValueError for an input_shape that a layer refuses,
    FileError for a file that cannot be written.
    """
    onnx = need("onnx", "onnx", "export_onnx")
    if not isinstance(model, Sequential):
        raise TypeError(f"export_onnx: model is {kind_of(model)}; expected a Sequential.")
    for parameter in model.parameters():
        if parameter.data.dtype != np.float32:
            raise TypeError(
                f"export_onnx: {parameter.name} is {parameter.data.dtype}; expected float32: write "
                "model.astype(np.float32)."
            )
    proto = _Exporter(onnx, model, input_shape).model()
    onnx.checker.check_model(proto, full_check=True)
    with replacing(path) as file:
        file.write(proto.SerializeToString(deterministic=True))


class _Exporter:
    """The nodes and arrays of one graph, in order."""

    def __init__(self, onnx: Any, model: Sequential, input_shape: tuple[int | None, ...]) -> None:
        self.onnx, self.network, self.input_shape = onnx, model, tuple(input_shape)
        self.nodes: list[Any] = []
        self.arrays: dict[str, Array] = {}
        self.x: Shape = summary.one_image(input_shape)  # what flows, in pycnn's layout
        self.value = "images"
        self.nchw = False  # whether it flows in NCHW
        self.layers = list(_layout.leaves(model))
        self.state = model.state_dict()
        model.output_shape(input_shape)  # refuses in the name of the layer
        self.channels = _layout.linear_channels("export_onnx", model, self.x[1:])

    def model(self) -> Any:
        helper = self.onnx.helper
        self._normalize()
        if len(self.x) == 4:
            self._transpose(to_nchw=True)
        for i, (name, layer) in enumerate(self.layers):
            y = layer._output_shape(self.x)
            self._layer(i, name, layer, y)
            self.x = y
        if self.nchw:
            self._transpose(to_nchw=False)
        if not self.nodes:
            self._node("Identity", "output")
        self.nodes[-1].output[0] = "output"
        N: int | str = "N" if self.input_shape[0] is None else self.x[0]
        graph = helper.make_graph(
            self.nodes,
            "pycnn",
            [self._info("images", (N, *self.input_shape[1:]))],
            [self._info("output", (N, *self.x[1:]))],
            [self.onnx.numpy_helper.from_array(a, name) for name, a in self.arrays.items()],
        )
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

    def _node(self, operator: str, name: str, *arrays: str, **attributes: Any) -> None:
        """Append an operator on what flows; its result flows on under `name`."""
        inputs = [self.value, *arrays]
        self.nodes.append(
            self.onnx.helper.make_node(operator, inputs, [name], name=name, **attributes)
        )
        self.value = name

    def _array(self, name: str, array: Any) -> str:
        self.arrays[name] = np.ascontiguousarray(array, np.float32)
        return name

    def _transpose(self, to_nchw: bool) -> None:
        name, perm = ("to_nchw", TO_NCHW) if to_nchw else ("to_nhwc", TO_NHWC)
        self._node("Transpose", name, perm=perm)
        self.nchw = to_nchw

    def _normalize(self) -> None:
        normalization = self.network.normalization
        if not normalization.is_identity:
            normalization(np.zeros((1, *self.x[1:]), np.float32))  # refuses other channels
            self._node("Sub", "minus_mean", self._array("mean", _vector(normalization.mean)))
            self._node("Div", "normalized", self._array("std", _vector(normalization.std)))

    def _layer(self, i: int, name: str, layer: Layer, y: Shape) -> None:
        kind = type(layer).__name__
        node = f"{name}.{kind}"
        if isinstance(layer, Conv2d):
            self._array(f"{name}.weight", _layout.conv_to_oihw(layer.weight.data))
            window = self._window(layer.kernel_size, layer.stride, layer.padding, y, layer.dilation)
            window |= {"dilations": layer.dilation, "group": layer.groups}
            self._node("Conv", node, f"{name}.weight", *self._bias(name, layer), **window)
        elif isinstance(layer, Linear):
            weight = _layout.linear_to_nchw(layer.weight.data, self.channels.get(name))
            self._array(f"{name}.weight", weight)
            self._node("Gemm", node, f"{name}.weight", *self._bias(name, layer), transB=1)
        elif isinstance(layer, MaxPool2d):
            window = self._window(layer.kernel_size, layer.stride, layer.padding, y)
            self._node("MaxPool", node, **window)
        elif isinstance(layer, AvgPool2d):
            window = self._window(layer.kernel_size, layer.stride, layer.padding, y)
            count = int(layer.count_include_pad)
            self._node("AveragePool", node, count_include_pad=count, **window)
        elif isinstance(layer, Flatten):
            if self.nchw and not self._linear_follows(i):
                self._transpose(to_nchw=False)  # nothing behind can be re-ordered
            self._node("Flatten", node, axis=1)
            self.nchw = False
        elif kind == "ReLU":
            self._node("Relu", node)
        elif kind == "BatchNorm2d":
            keys = ("weight", "bias", "running_mean", "running_var")
            arrays = [self._array(f"{name}.{key}", self.state[f"{name}.{key}"]) for key in keys]
            self._node("BatchNormalization", node, *arrays, epsilon=layer.eps)  # type: ignore[attr-defined]
        elif kind == "GlobalAvgPool2d":
            self._node("GlobalAveragePool", node)
            self._node("Flatten", f"{name}.Flatten", axis=1)
            self.nchw = False
        elif kind != "Dropout":
            raise TypeError(
                f"export_onnx: layer {name} is a {kind}, which has no ONNX operator here; expected "
                "layers of pycnn.layers."
            )

    def _bias(self, name: str, layer: Conv2d | Linear) -> list[str]:
        return [] if layer.bias is None else [self._array(f"{name}.bias", layer.bias.data)]

    def _linear_follows(self, i: int) -> bool:
        """Whether what layer i flattens meets a Linear, with its numbers still in their order."""
        behind = (layer for _, layer in self.layers[i:] if type(layer).__name__ not in FLAT_KINDS)
        return isinstance(next(behind, None), Linear)

    def _window(
        self, kernel: Shape, stride: Shape, padding: Any, y: Shape, dilation: Shape = (1, 1)
    ) -> dict[str, Any]:
        sides = four_sided(padding, "export_onnx")
        if sides is None:  # SAME: what y needs beyond x, the odd pixel at the end
            read = [
                (out - 1) * s + d * (k - 1) + 1
                for out, s, d, k in zip(y[1:3], stride, dilation, kernel, strict=True)
            ]
            total = [max(n - size, 0) for n, size in zip(read, self.x[1:3], strict=True)]
            (top, left), (bottom, right) = (n // 2 for n in total), (n - n // 2 for n in total)
        else:
            top, bottom, left, right = sides
        return {"kernel_shape": kernel, "strides": stride, "pads": (top, left, bottom, right)}


def _vector(value: float | tuple[float, ...]) -> Array:
    """() or [C]."""
    return np.asarray(value, np.float32)
