"""`import_onnx`: an ONNX graph that is one chain of known operators as a Sequential."""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from pycnn import layers
from pycnn._formats import layout as _layout
from pycnn._formats.files import FileError, FilePath, file_path
from pycnn._runtime.extras import need
from pycnn.layers.base import Layer
from pycnn.layers.sequential import Sequential
from pycnn.onnx._export import TO_NCHW, TO_NHWC
from pycnn.ops.arrays import Array
from pycnn.preprocessing import Normalization

SKIPPED = ("Dropout", "Identity")  # do nothing in inference
SOFTMAX = ("LogSoftmax", "Softmax")  # at the end of a classifier; pycnn's give logits


def import_onnx(path: FilePath) -> Sequential:
    """The model of an ONNX file that is one chain of operators, in eval mode.

    Known are Conv, MaxPool, AveragePool, GlobalAveragePool, Relu, BatchNormalization, Flatten, a
    Reshape that flattens, Gemm, MatMul with a constant and Add of a constant behind it, Transpose
    between NHWC and NCHW, and Sub and Div by constants right after an NHWC input, which become
    `model.normalization`.
    An entry "class_names" of export_onnx becomes `model.class_names`.
    Dropout and Identity are left out, and so, with a UserWarning, is a Softmax or LogSoftmax at the
    end: the model gives logits. A GlobalAveragePool at the end gives [N, C] rather than
    [N, C, 1, 1]. All arrays are float32 constants of the file.

    The model's images are NHWC. A graph whose input is NCHW, as PyTorch writes them, computes the
    same on `x.transpose(0, 2, 3, 1)`; so does one whose result is an image, transposed as well.

    Raises ImportError without onnx (extra "onnx"); FileError for what is no ONNX file, and with the
    name of the first node that is not known or says something that no layer can do.
    """
    onnx = need("onnx", "onnx", "import_onnx")
    if not file_path(path).is_file():
        raise FileError(f"{path}: cannot read: there is no such file.")
    try:
        proto = onnx.load(str(path))
        onnx.checker.check_model(proto)
    except OSError as error:
        raise FileError(f"{path}: cannot read: {error.strerror or error}.") from error
    except Exception as error:  # of protobuf or onnx.checker, which have no common class
        first = str(error).strip().partition("\n")[0]
        raise FileError(f"{path}: this is no valid ONNX file: {first}") from error
    model = _Importer(onnx, proto.graph, path).model()
    for entry in proto.metadata_props:
        if entry.key == "class_names":
            # Another program's entry of that name may be anything, and is no part of the graph.
            with contextlib.suppress(TypeError, ValueError):
                model.class_names = json.loads(entry.value)
    return model


class _Importer:
    """Reads a graph's nodes in order; `where` is the node of which the sentences speak."""

    def __init__(self, onnx: Any, graph: Any, path: FilePath) -> None:
        self.onnx, self.graph, self.path = onnx, graph, path
        self.where = "the graph"
        self.constants = {a.name: onnx.numpy_helper.to_array(a) for a in graph.initializer}
        self.nodes = []
        for node in graph.node:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = self._constant(node)
            else:
                self.nodes.append(node)
        self.layers: list[Layer] = []
        self.normalization = Normalization()
        self.value, rank, self.shape = self._input()
        # The layout of what flows: "nhwc", "nchw", "features", "mixed" ([C, H, W] flattened) and
        # "pooled" ([N, C, 1, 1])
        self.layout = "features" if rank == 2 else "nhwc" if self._starts_nhwc() else "nchw"
        self.first_layout = self.layout
        if self.layout == "nchw" and self.shape:
            N, C, H, W = self.shape
            self.shape = (N, H, W, C)
        self.channels = self.shape[-1] if self.shape else None  # of the image that flows or flowed
        self.pending_bias = False  # after a MatMul an Add is its bias

    def model(self) -> Sequential:
        shape = self.shape
        for i, node in enumerate(self.nodes):
            self.where = f"node {i} {node.name!r} ({node.op_type})"
            if node.op_type in SOFTMAX and i == len(self.nodes) - 1:
                self._leave_out(node)
            self._read(node)
        self.where = "the graph"
        if self.value != self.graph.output[0].name:
            self._refuse(
                f"its output {self.graph.output[0].name!r} is not what its last node gives"
            )
        if self.layout not in ("features", "pooled", self.first_layout):
            self._refuse("its output has another order of axes than its input; expected the same")
        if not self.layers:
            self._refuse("it has no layers")
        model = Sequential(*self.layers)
        model.normalization = self.normalization
        model.input_shape = None if shape is None else shape[1:]
        return model.eval()

    def _refuse(self, why: str) -> NoReturn:
        raise FileError(f"{self.path}: {self.where}: {why}.") from None

    def _input(self) -> tuple[str, int, tuple[int, ...] | None]:
        """Its name, its number of axes, and its shape with N = 1, None if not all are fixed."""
        inputs = [i for i in self.graph.input if i.name not in self.constants]
        if len(inputs) != 1 or len(self.graph.output) != 1:
            self._refuse(
                f"it has {len(inputs)} inputs and {len(self.graph.output)} outputs; "
                "expected one of each"
            )
        kind = inputs[0].type.tensor_type
        if kind.elem_type != self.onnx.TensorProto.FLOAT:
            self._refuse("its input is not float32")
        sizes = [d.dim_value for d in kind.shape.dim]
        if len(sizes) not in (2, 4):
            self._refuse(f"its input has {len(sizes)} axes; expected images [N, ., ., .] or [N, F]")
        known = all(size > 0 for size in sizes[1:])
        return inputs[0].name, len(sizes), (1, *sizes[1:]) if known else None

    def _starts_nhwc(self) -> bool:
        """Whether the first node that is not Sub, Div or Identity turns NHWC to NCHW."""
        skipped = ("Sub", "Div", *SKIPPED)
        first = next((node for node in self.nodes if node.op_type not in skipped), None)
        return (
            first is not None
            and first.op_type == "Transpose"
            and self._attributes(first).get("perm") == TO_NCHW
        )

    def _attributes(self, node: Any) -> dict[str, Any]:
        get = self.onnx.helper.get_attribute_value
        return {attribute.name: get(attribute) for attribute in node.attribute}

    def _constant(self, node: Any) -> Array:
        attributes = self._attributes(node)
        if "value" in attributes:
            return np.asarray(self.onnx.numpy_helper.to_array(attributes["value"]))
        return np.asarray(next(iter(attributes.values())))

    def _array(self, node: Any, i: int) -> Array:
        name = node.input[i]
        if name not in self.constants:
            self._refuse(f"its input {i}, {name!r}, is computed; expected a constant of the file")
        array = self.constants[name]
        if array.dtype != np.float32:
            self._refuse(f"{name!r} is {array.dtype}; expected float32")
        return np.asarray(array)

    def _optional(self, node: Any, i: int) -> Array | None:
        return self._array(node, i) if len(node.input) > i and node.input[i] else None

    def _leave_out(self, node: Any) -> None:
        """What a softmax over the classes at the end takes is the result."""
        axis = self._attributes(node).get("axis")
        over_classes = axis == 1 if self.layout == "pooled" else axis in (None, 1, -1)
        if self.layout not in ("features", "mixed", "pooled") or not over_classes:
            self._refuse(f"axis is {axis}; expected the classes of an output [N, classes]")
        warnings.warn(
            f"{self.path}: {self.where} is left out: the model gives logits, as Trainer and "
            "pycnn.predict expect; ops.softmax(model(x)) gives the probabilities.",
            stacklevel=4,
        )
        node.op_type = "Identity"

    def _read(self, node: Any) -> None:
        read = getattr(self, f"_{node.op_type.lower()}", None)
        if node.domain not in ("", "ai.onnx") or (read is None and node.op_type not in SKIPPED):
            self._refuse("pycnn has no such operator")
        if not node.input or node.input[0] != self.value:
            self._refuse(f"it does not take {self.value!r}, the result before it; expected a chain")
        if any(name == self.value for name in node.input[1:]):
            self._refuse("it takes the result before it twice; expected a chain")
        pending, self.pending_bias = self.pending_bias, node.op_type == "MatMul"
        if node.op_type == "Add" and not pending:
            self._refuse("it is no bias of a MatMul right before it")
        if read is not None:
            read(node, self._attributes(node))
        self.value = node.output[0]

    def _append(self, layer: Layer, **arrays: Array | None) -> None:
        """A layer that has the arrays' values."""
        try:
            layer.load_state_dict({k: a for k, a in arrays.items() if a is not None})
            if self.shape is not None:
                self.shape = layer.infer_shape(self.shape)
        except (TypeError, ValueError) as error:
            self._refuse(str(error).rstrip("."))
        self.layers.append(layer)

    def _make(self, kind: str, *arguments: Any) -> Layer:
        """A layer of `pycnn.layers`; what its constructor refuses is told of the node."""
        try:
            return getattr(layers, kind)(*arguments)  # type: ignore[no-any-return]
        except (AttributeError, TypeError, ValueError) as error:
            self._refuse(str(error).rstrip("."))

    def _expect(self, layout: str, what: str) -> None:
        if self.layout != layout:
            self._refuse(f"expected {what}")

    def _transpose(self, node: Any, attributes: Mapping[str, Any]) -> None:
        perm = attributes.get("perm")
        if self.layout == "nhwc" and perm == TO_NCHW:
            self.layout = "nchw"
        elif self.layout == "nchw" and perm == TO_NHWC:
            self.layout = "nhwc"
        else:
            self._refuse(f"perm is {perm}; expected one between NHWC and NCHW")

    def _sub(self, node: Any, attributes: Mapping[str, Any]) -> None:
        self.normalization = self._normalized(Normalization(self._per_channel(node), 1.0))

    def _div(self, node: Any, attributes: Mapping[str, Any]) -> None:
        mean = self.normalization.mean
        self.normalization = self._normalized(Normalization(mean, self._per_channel(node)))

    def _normalized(self, normalization: Normalization) -> Normalization:
        if self.layers or self.layout == "nchw" or self.normalization.std != 1.0:
            self._refuse("expected it only as the normalization of an NHWC input")
        return normalization

    def _per_channel(self, node: Any) -> float | tuple[float, ...]:
        array = self._array(node, 1)
        if array.size == 1:
            return float(array.reshape(-1)[0])
        if array.ndim != 1:
            self._refuse(f"its constant has shape {array.shape}; expected one number a channel")
        return tuple(array.tolist())

    def _window(self, attributes: Mapping[str, Any]) -> tuple[Any, Any]:
        """(strides, padding) of a convolution or pool."""
        strides = tuple(attributes.get("strides", (1, 1)))
        auto = attributes.get("auto_pad", b"NOTSET")
        if auto in (b"SAME_UPPER", b"VALID"):
            return strides, "same" if auto == b"SAME_UPPER" else "valid"
        if auto != b"NOTSET" or len(strides) != 2:
            self._refuse(
                f"auto_pad is {auto.decode()}, strides {strides}; expected 2 axes, explicit"
            )
        top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
        return strides, ((top, bottom), (left, right))

    def _conv(self, node: Any, attributes: Mapping[str, Any]) -> None:
        self._expect("nchw", "images in NCHW before it")
        weight, bias = self._array(node, 1), self._optional(node, 2)
        if weight.ndim != 4:
            self._refuse(f"its weight has shape {weight.shape}; expected [OC, C / group, KH, KW]")
        group, (strides, padding) = attributes.get("group", 1), self._window(attributes)
        dilations = tuple(attributes.get("dilations", (1, 1)))
        OC, C, KH, KW = weight.shape
        layer = self._make(
            "Conv2d", C * group, OC, (KH, KW), strides, padding, dilations, group, bias is not None
        )
        self._append(layer, weight=_layout.conv_from_oihw(weight), bias=bias)
        self.channels = OC

    def _pool(self, kind: str, attributes: Mapping[str, Any], *more: Any) -> None:
        self._expect("nchw", "images in NCHW before it")
        kernel, (strides, padding) = tuple(attributes["kernel_shape"]), self._window(attributes)
        if attributes.get("storage_order", 0) or set(attributes.get("dilations", [1])) != {1}:
            self._refuse("expected storage_order 0 and no dilations")
        if attributes.get("ceil_mode", 0):
            if not isinstance(padding, str) and more != (True,):
                padding = self._ceil(kernel, strides, padding)
            else:
                self._refuse("expected no ceil_mode with auto_pad or count_include_pad")
        self._append(self._make(kind, kernel, strides, padding, *more))

    def _ceil(self, kernel: Any, strides: Any, padding: Any) -> Any:
        """Padding with which the last window, that would begin in the image, is whole."""
        if self.shape is None:
            self._refuse("ceil_mode needs the size of the image; expected an input of known size")
        sides = []
        for n, k, s, (before, after) in zip(self.shape[1:3], kernel, strides, padding, strict=True):
            windows = -(-(n + before + after - k) // s) + 1
            if (windows - 1) * s >= n + before:  # would begin behind the image: there is none
                windows -= 1
            sides.append((before, max(after, (windows - 1) * s + k - n - before)))
        return tuple(sides)

    def _maxpool(self, node: Any, attributes: Mapping[str, Any]) -> None:
        self._pool("MaxPool2d", attributes)

    def _averagepool(self, node: Any, attributes: Mapping[str, Any]) -> None:
        self._pool("AvgPool2d", attributes, bool(attributes.get("count_include_pad", 0)))

    def _globalaveragepool(self, node: Any, attributes: Mapping[str, Any]) -> None:
        self._expect("nchw", "images in NCHW before it")
        self._append(self._make("GlobalAvgPool2d"))
        self.layout = "pooled"  # [N, C, 1, 1]: the Flatten that follows is part of the layer

    def _relu(self, node: Any, attributes: Mapping[str, Any]) -> None:
        self._append(self._make("ReLU"))

    def _batchnormalization(self, node: Any, attributes: Mapping[str, Any]) -> None:
        self._expect("nchw", "images in NCHW before it")
        if attributes.get("training_mode", 0) or len(node.output) > 1:
            self._refuse("expected inference: training_mode 0 and one output")
        weight, bias, mean, var = (self._array(node, i) for i in range(1, 5))
        layer = self._make("BatchNorm2d", len(weight), 0.1, attributes.get("epsilon", 1e-5))
        self._append(layer, weight=weight, bias=bias, running_mean=mean, running_var=var)
        self.channels = len(weight)

    def _flatten(self, node: Any, attributes: Mapping[str, Any]) -> None:
        if attributes.get("axis", 1) != 1:
            self._refuse(f"axis is {attributes['axis']}; expected 1")
        self._flattened()

    def _reshape(self, node: Any, attributes: Mapping[str, Any]) -> None:
        shape = self.constants.get(node.input[1], np.zeros(0)).tolist()
        features = None if self.shape is None else math.prod(self.shape[1:])
        if len(shape) != 2 or shape[0] not in (0, -1) or shape[1] not in (-1, features):
            self._refuse(
                f"the new shape is {shape or 'computed'}; expected [-1, features] of images"
            )
        self._flattened()

    def _flattened(self) -> None:
        if self.layout == "pooled":
            self.layout = "features"
            return
        self._append(self._make("Flatten"))
        self.layout = {"nchw": "mixed", "nhwc": "features"}.get(self.layout, self.layout)

    def _gemm(self, node: Any, attributes: Mapping[str, Any]) -> None:
        scales = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
        if scales != (1.0, 1.0) or attributes.get("transA", 0):
            self._refuse("expected alpha = beta = 1 and transA = 0")
        weight, bias = self._array(node, 1), self._optional(node, 2)
        self._linear(weight if attributes.get("transB", 0) else weight.T, bias)

    def _matmul(self, node: Any, attributes: Mapping[str, Any]) -> None:
        self._linear(self._array(node, 1).T, None)

    def _add(self, node: Any, attributes: Mapping[str, Any]) -> None:
        linear = self.layers.pop()
        assert isinstance(linear, layers.Linear)
        bias = self._array(node, 1)
        size = linear.out_features
        if bias.shape not in ((size,), (1, size)):
            self._refuse(f"its constant has shape {bias.shape}; expected [{size}]")
        whole = self._make("Linear", linear.in_features, size)
        whole.load_state_dict({"weight": linear.weight.data, "bias": bias.reshape(size)})
        self.layers.append(whole)

    def _linear(self, weight: Array, bias: Array | None) -> None:
        """weight: [out, in]."""
        if self.layout not in ("features", "mixed") or weight.ndim != 2:
            self._refuse("expected features [N, in] before it: Flatten")
        out, features = weight.shape
        layer = self._make("Linear", features, out, bias is not None)
        channels = self.channels if self.layout == "mixed" else None
        if self.layout == "mixed" and channels is None:
            self._refuse("the channels of the flattened image are not known: expected fixed sizes")
        if channels is not None and features % channels:
            self._refuse(f"it takes {features} features of {channels} channels: not a multiple")
        if bias is not None:
            bias = np.broadcast_to(bias.reshape(-1), (out,)).copy()
        self._append(layer, weight=_layout.linear_from_nchw(weight, channels), bias=bias)
        self.layout = "features"
