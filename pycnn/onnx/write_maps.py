"""Writers of layers that compute: number by number, products, norms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pycnn._formats import layout
from pycnn.graph.values import Node
from pycnn.onnx.windows import window
from pycnn.onnx.writing import TO_FIRST, Writing

Writer = Callable[[Writing, Node], None]


def elementwise(write: Callable[[Writing, Node, str], str]) -> Writer:
    """A writer of a layer that computes number by number, in the layout that is there."""

    def run(w: Writing, node: Node) -> None:
        x, y = node.inputs[0], node.outputs[0]
        kind = w.layout(x)
        w.give(y, write(w, node, w.take(x, kind)), kind)

    return run


def plain(operator: str) -> Writer:
    """A writer of one operator without attributes."""
    return elementwise(lambda w, node, x: w.op(operator, [x]))


def joined(operator: str) -> Writer:
    """A writer of a layer of two operands."""

    def run(w: Writing, node: Node) -> None:
        kind = w.layout(*node.inputs)
        names = [w.take(x, kind) for x in node.inputs]
        w.give(node.outputs[0], w.op(operator, names), kind)

    return run


def affine(w: Writing, node: Node, x: str) -> str:
    """Mul and Add of numbers."""
    layer = node.operation
    if layer.scale != 1 or layer.shift == 0:
        x = w.op("Mul", [x, w.number(layer.scale)])
    return x if layer.shift == 0 else w.op("Add", [x, w.number(layer.shift)])


def channel_affine(w: Writing, node: Node, x: str) -> str:
    """Mul and Add of vectors."""
    layer, value = node.operation, node.inputs[0]
    kind = w.layout(value)
    weight, bias = (w.vector(value, p.data, kind) for p in (layer.weight, layer.bias))
    y = w.op("Mul", [x, w.held(node, "weight", weight)])
    return w.op("Add", [y, w.held(node, "bias", bias)])


def combine(w: Writing, node: Node) -> None:
    """An operator with an array."""
    layer, x, y = node.operation, node.inputs[0], node.outputs[0]
    kind = w.layout(x)
    array = layer.weight.data
    array = array.reshape((1,) * (x.ndim - array.ndim) + array.shape)
    if kind == "first":
        array = array.transpose(TO_FIRST[x.ndim])
    operator = {"add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div"}[layer.op]
    names = [w.take(x, kind), w.held(node, "weight", array)]
    w.give(y, w.op(operator, names[::-1] if layer.reflected else names), kind)


def clip(w: Writing, node: Node, x: str) -> str:
    """Clip; of ReLU6 too."""
    low, high = getattr(node.operation, "low", 0.0), getattr(node.operation, "high", 6.0)
    bounds = ["" if math.isinf(b) else w.number(b) for b in (low, high)]
    while bounds and not bounds[-1]:
        bounds.pop()
    return w.op("Clip", [x, *bounds])


def hard_sigmoid(w: Writing, node: Node, x: str) -> str:
    """HardSigmoid."""
    return w.op("HardSigmoid", [x], alpha=node.operation.slope, beta=node.operation.shift)


def softplus(w: Writing, node: Node, x: str) -> str:
    """Softplus(beta x) / beta; above the threshold that is x, to rounding."""
    beta = node.operation.beta
    if beta == 1:
        return w.op("Softplus", [x])
    y = w.op("Softplus", [w.op("Mul", [x, w.number(beta)])])
    return w.op("Mul", [y, w.number(1 / beta)])


def gelu(w: Writing, node: Node, x: str) -> str:
    """Written out: Gelu is of opset 20."""
    if node.operation.approximate == "none":
        inner = w.op("Erf", [w.op("Mul", [x, w.number(math.sqrt(0.5))])])
    else:
        cube = w.op("Mul", [w.op("Mul", [x, w.op("Mul", [x, x])]), w.number(0.044715)])
        inner = w.op("Mul", [w.op("Add", [x, cube]), w.number(math.sqrt(2 / math.pi))])
        inner = w.op("Tanh", [inner])
    return w.op("Mul", [w.op("Mul", [x, w.op("Add", [inner, w.number(1.0)])]), w.number(0.5)])


def prelu(w: Writing, node: Node) -> None:
    """PRelu."""
    x, y = node.inputs[0], node.outputs[0]
    kind = w.layout(x)
    slope = node.operation.weight.data
    slope = w.vector(x, slope, kind) if slope.size > 1 else slope
    name = w.held(node, "weight", slope)
    w.give(y, w.op("PRelu", [w.take(x, kind), name]), kind)


def softmax(w: Writing, node: Node) -> None:
    """Softmax over the channels."""
    x, y = node.inputs[0], node.outputs[0]
    kind = w.layout(x)
    kind = "last" if kind == "flat" else kind
    axis = 1 if kind == "first" else x.ndim - 1
    w.give(y, w.op("Softmax", [w.take(x, kind)], axis=axis), kind)


# ---- with weights ----------------------------------------------------------------------------


def _bias(w: Writing, node: Node) -> list[str]:
    bias = node.operation.bias
    return [] if bias is None else [w.held(node, "bias", bias.data)]


def conv(w: Writing, node: Node) -> None:
    """Conv, of images or of [N, L, C]."""
    layer, x, y = node.operation, node.inputs[0], node.outputs[0]
    weight = layer.weight.data
    if x.ndim == 4:
        array = layout.conv_to_oihw(weight)
    else:
        array = weight.reshape(weight.shape[-3:]).transpose(2, 1, 0)
    names = [w.take(x, "first"), w.held(node, "weight", array), *_bias(w, node)]
    attributes = window(layer, x.full_shape, y.full_shape)
    w.give(y, w.op("Conv", names, **attributes, group=layer.groups), "first")


def conv_transpose(w: Writing, node: Node) -> None:
    """ConvTranspose, with the pads that give y's size."""
    layer, x, y = node.operation, node.inputs[0], node.outputs[0]
    weight = layer.weight.data.transpose(3, 2, 0, 1)
    begins, ends, more = [], [], []
    sizes = zip(
        x.full_shape[1:3], y.full_shape[1:3], layer.kernel_size, layer.stride, layer.dilation,
        layer.output_padding, _sides(layer), strict=True,
    )  # fmt: skip
    for n, out, k, s, d, o, side in sizes:
        total = s * (n - 1) + o + d * (k - 1) + 1 - out
        begin = total // 2 if side is None else side[0]
        begins.append(begin)
        ends.append(total - begin)
        more.append(o)
    names = [w.take(x, "first"), w.held(node, "weight", weight), *_bias(w, node)]
    name = w.op(
        "ConvTranspose", names, kernel_shape=layer.kernel_size, strides=layer.stride,
        dilations=layer.dilation, group=layer.groups, pads=[*begins, *ends], output_padding=more,
    )  # fmt: skip
    w.give(y, name, "first")


def _sides(layer: Any) -> list[Any]:
    """(before, after) of both axes, None for those of "same"."""
    from pycnn.ops.arrays import four_sided

    sides = four_sided(layer.padding, "export_onnx")
    if sides is None:
        return [None, None]
    top, bottom, left, right = sides
    return [(top, bottom), (left, right)]


def linear(w: Writing, node: Node) -> None:
    """Gemm; MatMul and Add of more than two axes."""
    layer, x, y = node.operation, node.inputs[0], node.outputs[0]
    if x.ndim > 2:
        names = [w.take(x, "last"), w.held(node, "weight", layer.weight.data)]
        name = w.op("MatMul", names)
        if layer.bias is not None:
            name = w.op("Add", [name, *_bias(w, node)])
        w.give(y, name, "last")
        return
    flat = "flat" in w.names[id(x)]
    weight = layout.linear_to_nchw(layer.weight.data, w.channels[id(node)] if flat else None)
    names = [w.take(x, "flat" if flat else "last"), w.held(node, "weight", weight), *_bias(w, node)]
    w.give(y, w.op("Gemm", names, transB=1), "last")


def batch_norm(w: Writing, node: Node) -> None:
    """BatchNormalization."""
    layer, x, y = node.operation, node.inputs[0], node.outputs[0]
    state = layer.state_dict()
    kind = "first" if x.ndim > 2 else "last"
    keys = "weight", "bias", "running_mean", "running_var"
    names = [w.take(x, kind), *(w.held(node, key, state[key]) for key in keys)]
    w.give(y, w.op("BatchNormalization", names, epsilon=layer.eps), kind)


def layer_norm(w: Writing, node: Node) -> None:
    """LayerNormalization of the last axis."""
    layer, x, y = node.operation, node.inputs[0], node.outputs[0]
    names = [w.take(x, "last"), w.held(node, "weight", layer.weight.data)]
    name = w.op("LayerNormalization", [*names, *_bias(w, node)], axis=-1, epsilon=layer.eps)
    w.give(y, name, "last")


def group_norm(w: Writing, node: Node) -> None:
    """InstanceNormalization; where a group has several channels, of [N, groups, everything]."""
    layer, x, y = node.operation, node.inputs[0], node.outputs[0]
    weight, bias = layer.weight.data, layer.bias.data
    groups, C = layer.num_groups, layer.num_channels
    source = w.take(x, "first")
    if groups == C:
        arrays = [w.held(node, "weight", weight), w.held(node, "bias", bias)]
        w.give(y, w.op("InstanceNormalization", [source, *arrays], epsilon=layer.eps), "first")
        return
    ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    arrays = [w.array(f"ones_{groups}", ones), w.array(f"zeros_{groups}", zeros)]
    split = w.op("Reshape", [source, w.whole(0, groups, -1)])
    normed = w.op("InstanceNormalization", [split, *arrays], epsilon=layer.eps)
    back = w.op("Reshape", [normed, w.whole(0, C, *x.full_shape[1:-1])])
    scale, shift = (w.vector(x, a, "first") for a in (weight, bias))
    name = w.op("Mul", [back, w.held(node, "weight", scale)])
    w.give(y, w.op("Add", [name, w.held(node, "bias", shift)]), "first")


def local_response_norm(w: Writing, node: Node) -> None:
    """LRN."""
    layer, x, y = node.operation, node.inputs[0], node.outputs[0]
    if layer.size % 2 == 0:
        raise TypeError(
            f"export_onnx: {node.label} has size = {layer.size}, of which ONNX takes the channel "
            "more behind instead of before; expected an odd size."
        )
    numbers = {"size": layer.size, "alpha": layer.alpha, "beta": layer.beta, "bias": layer.k}
    w.give(y, w.op("LRN", [w.take(x, "first")], **numbers), "first")
