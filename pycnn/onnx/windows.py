"""Strides, pads and the like of convolutions and pools as attributes of ONNX."""

from __future__ import annotations

from typing import Any

from pycnn.graph.values import Shape
from pycnn.ops.arrays import four_sided


def window(layer: Any, x: Shape, y: Shape) -> dict[str, Any]:
    """kernel_shape, strides, pads, dilations and ceil_mode of a layer from x to y."""
    count = len(x) - 2
    kernel, stride = layer.kernel_size, layer.stride
    dilation = getattr(layer, "dilation", (1, 1))
    if count == 1:
        kernel, stride, dilation = ((1, *_numbers(n)[-1:]) for n in (kernel, stride, dilation))
        x, y = (x[0], 1, *x[1:]), (y[0], 1, *y[1:])
    pads = _pads(layer, kernel, stride, dilation, x, y, count)
    found = {"kernel_shape": kernel[-count:], "strides": stride[-count:], "pads": pads}
    if "Conv" in type(layer).__name__ or dilation != (1, 1):
        found["dilations"] = dilation[-count:]
    if getattr(layer, "ceil_mode", False):
        found["ceil_mode"] = 1
    return found


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _pads(
    layer: Any, kernel: Any, stride: Any, dilation: Any, x: Shape, y: Shape, count: int
) -> tuple[int, ...]:
    padding = layer.padding
    if count == 1 and not isinstance(padding, str):
        sides = _numbers(padding)
        padding = ((0, 0), (sides[0], sides[-1]))
    explicit = four_sided(padding, "export_onnx")
    if explicit is None:  # SAME: what y needs beyond x, the odd pixel at the end
        read = [
            (out - 1) * s + d * (k - 1) + 1
            for out, s, d, k in zip(y[1:3], stride, dilation, kernel, strict=True)
        ]
        total = [max(n - size, 0) for n, size in zip(read, x[1:3], strict=True)]
        (top, left), (bottom, right) = (n // 2 for n in total), (n - n // 2 for n in total)
    else:
        top, bottom, left, right = explicit
    return (top, left, bottom, right) if count == 2 else (left, right)
