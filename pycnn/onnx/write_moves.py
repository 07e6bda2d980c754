"""Writers of pools, of sizes, and of what moves numbers about."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn.graph.values import Node, Value
from pycnn.onnx.windows import window
from pycnn.onnx.writing import Writing

FAR = np.iinfo(np.int64).max  # behind every end


def pool(w: Writing, node: Node) -> None:
    """MaxPool and AveragePool."""
    layer, x, y = node.operation, node.inputs[0], node.outputs[0]
    attributes = window(layer, x.full_shape, y.full_shape)
    maximum = "Max" in node.kind
    if not maximum:
        attributes["count_include_pad"] = int(layer.count_include_pad)
        if "dilations" in attributes:
            raise TypeError(
                f"export_onnx: {node.label} has dilation = {layer.dilation}, which AveragePool of "
                "opset 17 does not have; expected 1."
            )
    name = w.op("MaxPool" if maximum else "AveragePool", [w.take(x, "first")], **attributes)
    w.give(y, name, "first")


def adaptive_pool(w: Writing, node: Node) -> None:
    """A pool of windows that share the image equally."""
    x, y = node.inputs[0], node.outputs[0]
    sizes, outs = x.full_shape[1:3], y.full_shape[1:3]
    if any(n % out for n, out in zip(sizes, outs, strict=True)):
        raise TypeError(
            f"export_onnx: {node.label} makes {outs} of {sizes}; ONNX has windows of one size: "
            "expected sizes that divide."
        )
    kernel = [n // out for n, out in zip(sizes, outs, strict=True)]
    operator = "MaxPool" if "Max" in node.kind else "AveragePool"
    name = w.op(operator, [w.take(x, "first")], kernel_shape=kernel, strides=kernel)
    w.give(y, name, "first")


def global_pool(w: Writing, node: Node) -> None:
    """GlobalAveragePool or GlobalMaxPool, and Flatten."""
    x, y = node.inputs[0], node.outputs[0]
    operator = "GlobalMaxPool" if "Max" in node.kind else "GlobalAveragePool"
    pooled = w.op(operator, [w.take(x, "first")])
    w.give(y, w.op("Flatten", [pooled], axis=1), "last")


def mean(w: Writing, node: Node) -> None:
    """ReduceMean."""
    layer, x, y = node.operation, node.inputs[0], node.outputs[0]
    kind = w.layout(x) if layer.keepdims else "last"
    if not layer.keepdims and {a % x.ndim for a in layer.axes} == set(range(1, x.ndim - 1)):
        kind = "first"  # [N, C] of both
    kind = "last" if kind == "flat" or x.ndim not in (3, 4) else kind
    axes = sorted(w.axis(x, axis, kind) for axis in layer.axes)
    name = w.op("ReduceMean", [w.take(x, kind)], axes=axes, keepdims=int(layer.keepdims))
    w.give(y, name, kind if layer.keepdims else "last")


def _kind(w: Writing, *values: Value) -> str:
    kind = w.layout(*values)
    return "last" if kind == "flat" else kind


def concat(w: Writing, node: Node) -> None:
    """Concat."""
    x, y = node.inputs[0], node.outputs[0]
    kind = _kind(w, *node.inputs)
    names = [w.take(x, kind) for x in node.inputs]
    w.give(
        y, w.op("Concat", names, axis=w.axis(x, getattr(node.operation, "axis", -1), kind)), kind
    )


def split(w: Writing, node: Node) -> None:
    """Split."""
    layer, x = node.operation, node.inputs[0]
    kind = _kind(w, x)
    names = [w.take(x, kind), w.whole(*layer.sizes)]
    axis = w.axis(x, getattr(layer, "axis", -1), kind)
    for y, name in zip(
        node.outputs, w.several("Split", names, len(layer.sizes), axis=axis), strict=True
    ):
        w.give(y, name, kind)


def slice_(w: Writing, node: Node) -> None:
    """Slice."""
    layer, x, y = node.operation, node.inputs[0], node.outputs[0]
    kind = _kind(w, x)
    extent = x.full_shape[layer.axis]
    start, stop, step = slice(layer.start, layer.stop, layer.step).indices(extent)
    stop = -FAR if stop < 0 else stop
    numbers = [w.whole(n) for n in (start, stop, w.axis(x, layer.axis, kind), step)]
    w.give(y, w.op("Slice", [w.take(x, kind), *numbers]), kind)


def channel_shuffle(w: Writing, node: Node) -> None:
    """Reshape, Transpose, Reshape."""
    layer, x, y = node.operation, node.inputs[0], node.outputs[0]
    kind = _kind(w, x)
    g, C, space = layer.groups, x.full_shape[-1], x.full_shape[1:-1]
    name, rank = w.take(x, kind), x.ndim
    if kind == "first":
        split = (0, g, C // g, *space)
        perm: tuple[int, ...] = (0, 2, 1, *range(3, rank + 1))
        back = (0, C, *space)
    else:
        split, back = (0, *space, g, C // g), (0, *space, C)
        perm = (*range(rank - 1), rank, rank - 1)
    name = w.op("Transpose", [w.op("Reshape", [name, w.whole(*split)])], perm=perm)
    w.give(y, w.op("Reshape", [name, w.whole(*back)]), kind)


def reshape(w: Writing, node: Node) -> None:
    """Reshape; [N, C] to [N, 1, 1, C] as an image."""
    x, y = node.inputs[0], node.outputs[0]
    shape = y.full_shape[1:]
    if x.ndim == 2 and shape == (1, 1, x.full_shape[-1]):
        name = w.op("Reshape", [w.take(x, "last"), w.whole(0, shape[-1], 1, 1)])
        w.give(y, name, "first")
        return
    w.give(y, w.op("Reshape", [_last(w, x), w.whole(0, *shape)]), "last")


def _last(w: Writing, x: Value) -> str:
    if "flat" in w.names[id(x)]:
        raise AssertionError("only a Linear reads a flattened image in ONNX's order")
    return w.take(x, "last")


def permute(w: Writing, node: Node) -> None:
    """Transpose."""
    x, y = node.inputs[0], node.outputs[0]
    w.give(y, w.op("Transpose", [_last(w, x)], perm=node.operation.axes), "last")


def flatten(w: Writing, node: Node) -> None:
    """Flatten, of ONNX's order where weights behind it can be re-ordered."""
    x, y = node.inputs[0], node.outputs[0]
    if "flat" in w.names[id(x)]:
        w.same(y, x)
        return
    flat = x.ndim == 4 and w.layout(x) == "first" and only_linear_follows(w, y)
    name = w.op("Flatten", [w.take(x, "first" if flat else "last")], axis=1)
    w.give(y, name, "flat" if flat else "last")


NUMBER_BY_NUMBER = (
    "Abs", "Affine", "Clip", "Dropout", "ELU", "Erf", "Exp", "Flatten", "GELU", "Hardsigmoid",
    "Hardswish", "LeakyReLU", "Log", "Power", "ReLU", "ReLU6", "SiLU", "Sigmoid", "Softplus",
    "Sqrt", "Tanh",
)  # fmt: skip


def only_linear_follows(w: Writing, value: Value) -> bool:
    """Whether all that reads it is Linear, perhaps behind layers that do not mind the order."""
    if any(value is y for y in w.program.outputs):
        return False
    readers = [n for n in w.program.nodes if any(value is x for x in n.inputs)]
    return all(
        (n.kind == "Linear" and id(n) in w.channels)
        or (n.kind in NUMBER_BY_NUMBER and only_linear_follows(w, n.outputs[0]))
        for n in readers
    )


# ---- rims and sizes --------------------------------------------------------------------------


def _sides(layer: Any, x: Value) -> list[tuple[int, int]]:
    """(before, after) of each axis of x."""
    given = [tuple(side) for side in layer.padding]
    return [(0, 0), *given, *[(0, 0)] * (x.ndim - 1 - len(given))]


def pad(w: Writing, node: Node) -> None:
    """Pad."""
    layer, x, y = node.operation, node.inputs[0], node.outputs[0]
    if layer.mode == "wrap":
        raise TypeError(f"export_onnx: {node.label} wraps, which Pad of opset 17 does not.")
    kind = _kind(w, x)
    sides = _sides(layer, x)
    order = [sides[axis] for axis in _axes(w, x, kind)]
    pads = w.whole(*(before for before, _ in order), *(after for _, after in order))
    name = w.op("Pad", [w.take(x, kind), pads, w.number(layer.value)], mode=layer.mode)
    w.give(y, name, kind)


def _axes(w: Writing, x: Value, kind: str) -> list[int]:
    """The value's axes in the order of a layout."""
    return sorted(range(x.ndim), key=lambda axis: w.axis(x, axis, kind))


def crop(w: Writing, node: Node) -> None:
    """Slice."""
    x, y = node.inputs[0], node.outputs[0]
    kind = _kind(w, x)
    cut = [(a, side) for a, side in enumerate(_sides(node.operation, x)) if side != (0, 0)]
    starts = [before for _, (before, _) in cut]
    ends = [x.full_shape[a] - after for a, (_, after) in cut]
    axes = [w.axis(x, a, kind) for a, _ in cut]
    numbers = [w.whole(*n) for n in (starts, ends, axes)]
    name = w.op("Slice", [w.take(x, kind), *numbers]) if cut else w.take(x, kind)
    w.give(y, name, kind)


def depth_to_space(w: Writing, node: Node) -> None:
    """DepthToSpace."""
    layer, x, y = node.operation, node.inputs[0], node.outputs[0]
    name = w.op("DepthToSpace", [w.take(x, "first")], blocksize=layer.block, mode=layer.mode)
    w.give(y, name, "first")


def space_to_depth(w: Writing, node: Node) -> None:
    """SpaceToDepth; in the order "CRD" by Reshape, Transpose, Reshape."""
    layer, x, y = node.operation, node.inputs[0], node.outputs[0]
    b, source = layer.block, w.take(x, "first")
    if layer.mode == "DCR":
        w.give(y, w.op("SpaceToDepth", [source], blocksize=b), "first")
        return
    _, H, W, C = x.full_shape
    split = w.op("Reshape", [source, w.whole(0, C, H // b, b, W // b, b)])
    turned = w.op("Transpose", [split], perm=(0, 1, 3, 5, 2, 4))
    w.give(y, w.op("Reshape", [turned, w.whole(0, C * b * b, H // b, W // b)]), "first")


def resize(w: Writing, node: Node) -> None:
    """Resize, to a size with N as it is, or by scales."""
    layer, x, y = node.operation, node.inputs[0], node.outputs[0]
    source = w.take(x, "first")
    mode = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}[layer.mode]
    attributes = {"mode": mode, "coordinate_transformation_mode": layer.coordinates}
    if mode == "nearest":
        attributes["nearest_mode"] = layer.nearest
    if mode == "cubic":
        attributes["cubic_coeff_a"] = layer.cubic
    if layer.exclude_outside:
        attributes["exclude_outside"] = 1
    both = layer.size is not None and layer.scale is not None
    if both or layer.antialias or layer.coordinates in ("half_pixel_symmetric",):
        raise TypeError(
            f"export_onnx: {node.label} has antialias, half_pixel_symmetric, or a size beside its "
            "scale, which Resize of opset 17 does not have."
        )
    region = ""
    if layer.coordinates == "tf_crop_and_resize":
        (top, bottom), (left, right) = layer.roi
        region = w.floats(w.unique("region"), (0, 0, top, left, 1, 1, bottom, right))
        attributes["extrapolation_value"] = layer.outside
    if layer.scale is not None:
        scale = layer.scale if isinstance(layer.scale, (tuple, list)) else (layer.scale,) * 2
        scales = w.floats(w.unique("scales"), (1, 1, *scale))
        w.give(y, w.op("Resize", [source, region, scales], **attributes), "first")
        return
    shape = w.op("Shape", [source])
    kept = w.op("Slice", [shape, w.whole(0), w.whole(2), w.whole(0)])
    sizes = w.op("Concat", [kept, w.whole(*y.full_shape[1:3])], axis=0)
    w.give(y, w.op("Resize", [source, region, "", sizes], **attributes), "first")
