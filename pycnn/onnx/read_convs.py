"""Readers of convolutions and norms: operators whose constants become parameters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn.graph.values import Value
from pycnn.onnx.reading import Reading
from pycnn.onnx.views import Unreadable, View, arrange, reshape
from pycnn.ops.arrays import Array

Pads = tuple[tuple[int, int], tuple[int, int]]


def image_of(r: Reading, x: View) -> Value:
    """[N, C, H, W] or [N, C, L] as a value [N, H, W, C], H = 1 for the latter."""
    if x.rank not in (3, 4):
        raise Unreadable(f"it reads {len(x.axes)} axes; expected images [N, C, H, W] or [N, C, L]")
    return r.arrange(x, (0, 2, 3, 1) if x.rank == 4 else (0, None, 2, 1))


def image_view(x: View, y: Value) -> View:
    """The ONNX tensor in a value [N, H, W, C] that was made of `image_of(x)`."""
    return View(y, ((0,), (3,), (1,), (2,)) if x.rank == 4 else ((0,), (3,), (2,)), x.batch)


def two(r: Reading, name: str, rank: int, default: int = 1) -> tuple[int, int]:
    """An attribute of two numbers, height and width; of one along L."""
    found = tuple(r.node.get(name, (default,) * (rank - 2)))
    if len(found) != rank - 2:
        raise Unreadable(f"{name} is {found}; expected {rank - 2} numbers")
    return found if rank == 4 else (default if name == "dilations" else 1, found[0])


def window(r: Reading, x: View, kernel: tuple[int, int]) -> dict[str, Any]:
    """Stride and padding of a convolution or pool."""
    stride, dilation = two(r, "strides", x.rank), two(r, "dilations", x.rank)
    auto = r.node.get("auto_pad", "NOTSET")
    if auto == "VALID":
        return {"stride": stride, "padding": "valid"}
    if auto == "SAME_UPPER":
        return {"stride": stride, "padding": "same"}
    if auto == "SAME_LOWER":  # the odd pixel at the beginning
        return {"stride": stride, "padding": _same_lower(x, kernel, stride, dilation)}
    if auto != "NOTSET":
        raise Unreadable(f"auto_pad is {auto}; expected SAME_UPPER, SAME_LOWER, VALID or NOTSET")
    pads = tuple(r.node.get("pads", (0,) * (2 * (x.rank - 2))))
    if x.rank == 3:
        pads = (0, pads[0], 0, pads[1])
    top, left, bottom, right = pads
    return {"stride": stride, "padding": ((top, bottom), (left, right))}


def _same_lower(
    x: View, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Pads:
    sizes = x.shape[2:] if x.rank == 4 else (1, x.shape[2])
    sides = []
    for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        sides.append((total - total // 2, total // 2))
    return tuple(sides)  # type: ignore[return-value]


def conv(r: Reading) -> View:
    """Conv with one or two axes of space."""
    x, weight, bias = r.view(), r.floats(1), r.maybe(2)
    value = image_of(r, x)
    if weight.ndim != x.rank:
        raise Unreadable(f"its weight has shape {weight.shape}; expected [OC, C / group, ...]")
    if weight.ndim == 3:
        weight = weight[:, :, None]
    OC, C, KH, KW = weight.shape
    group = r.node.get("group", 1)
    layer = r.filled(
        "Conv2d", C * group, OC, (KH, KW), **window(r, x, (KH, KW)),
        dilation=two(r, "dilations", x.rank), groups=group, bias=bias is not None,
        arrays={"weight": weight.transpose(2, 3, 1, 0), "bias": bias},
    )  # fmt: skip
    return image_view(x, r.call(layer, value, like=r.node.inputs[1]))


def conv_transpose(r: Reading) -> View:
    """ConvTranspose with one or two axes of space; its weight is [C, OC / group, ...]."""
    x, weight, bias = r.view(), r.floats(1), r.maybe(2)
    value = image_of(r, x)
    if weight.ndim != x.rank:
        raise Unreadable(f"its weight has shape {weight.shape}; expected [C, OC / group, ...]")
    if weight.ndim == 3:
        weight = weight[:, :, None]
    C, OC, KH, KW = weight.shape
    group = r.node.get("group", 1)
    stride, dilation = two(r, "strides", x.rank), two(r, "dilations", x.rank)
    padding, more = _transposed_padding(r, x, (KH, KW), stride, dilation)
    layer = r.filled(
        "ConvTranspose2d", C, OC * group, (KH, KW), stride=stride, padding=padding,
        output_padding=more, dilation=dilation, groups=group, bias=bias is not None,
        arrays={"weight": transposed_weight(weight, group), "bias": bias},
    )  # fmt: skip
    return image_view(x, r.call(layer, value, like=r.node.inputs[1]))


def transposed_weight(weight: Array, groups: int) -> Array:
    """ONNX's [C, OC / groups, KH, KW] as ConvTranspose2d holds it."""
    return np.ascontiguousarray(weight.transpose(2, 3, 1, 0))


def _transposed_padding(
    r: Reading, x: View, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[Pads, tuple[int, int]]:
    """(padding, output_padding), explicit."""
    more = two(r, "output_padding", x.rank, 0)
    if x.rank == 3:
        more = 0, more[1]
    auto, shape = r.node.get("auto_pad", "NOTSET"), r.node.get("output_shape")
    if shape is None and auto in ("NOTSET", "VALID"):
        pads = tuple(r.node.get("pads", (0,) * (2 * (x.rank - 2))))
        pads = pads if x.rank == 4 else (0, pads[0], 0, pads[1])
        return ((pads[0], pads[2]), (pads[1], pads[3])), more
    sizes = x.shape[2:] if x.rank == 4 else (1, x.shape[2])
    if shape is None:
        shape = tuple(n * s for n, s in zip(sizes, stride, strict=True))
    shape = tuple(shape)[-len(sizes) :] if x.rank == 4 else (1, shape[-1])
    sides, beyond = [], []
    for n, out, k, s, d, o in zip(sizes, shape, kernel, stride, dilation, more, strict=True):
        total = s * (n - 1) + o + d * (k - 1) + 1 - out
        beyond.append(o + max(-total, 0))
        half = max(total, 0) // 2
        rest = max(total, 0) - half
        sides.append((half, rest) if auto == "SAME_UPPER" else (rest, half))
    return tuple(sides), tuple(beyond)  # type: ignore[return-value]


# ---- norms -----------------------------------------------------------------------------------


def batch_norm(r: Reading) -> View:
    """BatchNormalization of inference, of any number of axes behind the channels."""
    x = r.view()
    if r.node.get("training_mode", 0):
        raise Unreadable("training_mode is 1; expected inference")
    if not r.node.get("spatial", 1):
        raise Unreadable("spatial is 0; expected statistics of channels")
    weight, bias, mean, var = (r.floats(i) for i in range(1, 5))
    arrays = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": var}
    kind = "BatchNorm1d" if x.rank == 2 else "BatchNorm2d"
    layer = r.filled(kind, len(weight), eps=r.node.get("epsilon", 1e-5), arrays=arrays)
    if x.rank == 2:
        value, order, y = r.channels_last(x)
        if order is not None:
            value, y = r.arrange(x, (0, 1)), x.with_axes(((0,), (1,)))
            y = View(value, ((0,), (1,)), x.batch)
        return y.on(r.call(layer, value, like=r.node.inputs[1]))
    if x.rank > 4:
        flat = r.regroup(x, (*x.shape[:2], 1, math.prod(x.shape[2:])))
        y = image_view(flat, r.call(layer, image_of(r, flat), like=r.node.inputs[1]))
        return r.regroup(y, x.shape)
    return image_view(x, r.call(layer, image_of(r, x), like=r.node.inputs[1]))


def instance_norm(r: Reading) -> View:
    """InstanceNormalization: a GroupNorm of groups of one channel.

    Of [N, groups, everything else], as older exporters write GroupNorm, it is that.
    """
    x, weight, bias = r.view(), r.floats(1), r.floats(2)
    eps, C = r.node.get("epsilon", 1e-5), len(weight)
    grouped = _channels_of_groups(x)
    if grouped is not None:
        g, k, space = grouped
        size = x.extent(k)
        arrays = {"weight": np.repeat(weight, size), "bias": np.repeat(bias, size)}
        layer = r.filled("GroupNorm", C, C * size, eps, arrays=arrays)
        groups = [[0], space[:1], space[1:], [g, k]]
        value = r.call(layer, arrange(r.emit, x, groups), like=r.node.inputs[1])
        return x.on(reshape(r.emit, value, x.value.full_shape[1:]))
    layer = r.filled("GroupNorm", C, C, eps, arrays={"weight": weight, "bias": bias})
    flat = x if x.rank == 4 else r.regroup(x, (*x.shape[:2], 1, math.prod(x.shape[2:])))
    y = image_view(flat, r.call(layer, image_of(r, flat), like=r.node.inputs[1]))
    return y if x.rank == 4 else r.regroup(y, x.shape)


def _channels_of_groups(x: View) -> tuple[int, int, list[int]] | None:
    """(axis of the groups, of the channels in one, axes of space) of a value [N, ..., g, k]."""
    last = x.value.ndim - 1
    if x.rank != 3 or x.axes[1] != (last - 1,) or x.axes[0] != (0,):
        return None
    inner = x.axes[2]
    space = sorted(a for a in inner if a != last)
    return (last - 1, last, space) if last in inner and 0 not in inner and space else None


def group_norm(r: Reading) -> View:
    """GroupNormalization; before opset 21 with a scale and bias for each group."""
    x, weight, bias = r.view(), r.floats(1), r.floats(2)
    groups, C = r.node.get("num_groups"), x.shape[1]
    if len(weight) != C:
        weight, bias = (np.repeat(a, C // groups) for a in (weight, bias))
    layer = r.filled("GroupNorm", groups, C, r.node.get("epsilon", 1e-5),
                     arrays={"weight": weight, "bias": bias})  # fmt: skip
    flat = x if x.rank == 4 else r.regroup(x, (*x.shape[:2], 1, math.prod(x.shape[2:])))
    y = image_view(flat, r.call(layer, image_of(r, flat), like=r.node.inputs[1]))
    return y if x.rank == 4 else r.regroup(y, x.shape)


def layer_norm(r: Reading) -> View:
    """LayerNormalization over the last axes."""
    x, weight, bias = r.view(), r.floats(1), r.maybe(2)
    count = -r.node.get("axis", -1)
    count = count if count > 0 else x.rank + count
    value, order, y = r.channels_last(x, count)
    size = value.full_shape[-1]
    weight = np.broadcast_to(weight, x.shape[-count:]).reshape(-1)
    bias = None if bias is None else np.broadcast_to(bias, x.shape[-count:]).reshape(-1)
    if order is not None:
        weight, bias = weight[order], None if bias is None else bias[order]
    arrays = {"weight": np.ascontiguousarray(weight),
              "bias": None if bias is None else np.ascontiguousarray(bias)}  # fmt: skip
    layer = r.filled("LayerNorm", size, r.node.get("epsilon", 1e-5), bias is not None,
                     arrays=arrays)  # fmt: skip
    y = y.on(r.call(layer, value, like=r.node.inputs[1]))
    if order is None:
        return y if count == 1 else r.regroup(y, x.shape)
    return unflattened(r, y, x)


def unflattened(r: Reading, y: View, x: View) -> View:
    """What `channels_last` made one axis, in x's axes again."""
    return x.on(reshape(r.emit, y.value, x.value.full_shape[1:]))


def lrn(r: Reading) -> View:
    """LRN: alpha is divided by size, as in PyTorch."""
    x, node = r.view(), r.node
    if node.get("size") % 2 == 0:  # ONNX has the channel more behind, PyTorch and pycnn before
        raise Unreadable(f"its size is {node.get('size')}; expected an odd one")
    arguments = node.get("size"), node.get("alpha", 1e-4), node.get("beta", 0.75)
    value = image_of(r, x)
    return image_view(x, r.emit("LocalResponseNorm", (*arguments, node.get("bias", 1.0)), value))
