"""Pooling: each window of an image becomes one pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn import ops
from pycnn.inference import Builder
from pycnn.layers.arguments import frozen
from pycnn.layers.base import Layer
from pycnn.layers.memory import Place
from pycnn.layers.run import Shape
from pycnn.ops.arrays import Array, Padding, Pair, pair


class _Pool2d(Layer):
    _owns_results = True

    def __init__(
        self, kernel_size: Pair, stride: Pair | None = None, padding: Padding = "valid"
    ) -> None:
        super().__init__()
        who = type(self).__name__
        self.kernel_size = pair(kernel_size, who, "kernel_size")
        self.stride = self.kernel_size if stride is None else pair(stride, who, "stride")
        self.padding = frozen(padding)
        self._shape_by(self._pooled_shape, (1, *self.kernel_size, 1))  # refuses a bad padding now

    @property
    def _geometry(self) -> dict[str, Any]:
        return {"stride": self.stride, "padding": self.padding}

    def _pooled_shape(self, x: Shape) -> Shape:
        return tuple(ops.pool2d_output_shape(x, self.kernel_size, **self._geometry))

    def _output_shape(self, x: Shape) -> Shape:
        self._expect_axes(x, "[N, H, W, C]", "write x[None] for one image, x[..., None] for C = 1")
        return self._shape_by(self._pooled_shape, x)

    def _arguments(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding!r}"


class MaxPool2d(_Pool2d):
    """Maximum of each window: [N, H, W, C] -> [N, OH, OW, C].

    kernel_size: an int, (h, w), or the lecture's [1, h, w, 1]; stride: alike, the window unless
    given; padding: "same" or "valid" as in TensorFlow, an int, (h, w), or
    ((top, bottom), (left, right)), smaller than the window. Padding never wins, the first maximum
    does, and NaN wins over numbers. The gradient of a window goes to its maximum.
    """

    def _forward(self, x: Array, place: Place) -> tuple[Array, Any]:
        y = self._output(x, place)
        if not self.training:
            ops.max_pool2d(x, self.kernel_size, **self._geometry, out=y)
            return y, None
        out = y, self._buffers.get("indices", y.shape, np.int32)
        ops.max_pool2d(x, self.kernel_size, **self._geometry, return_indices=True, out=out)
        return out

    def _backward(self, dy: Array, indices: Array, place: Place | None) -> Array | None:
        if place is None:
            return None
        dx = self._input_gradient(dy, place)
        ops.max_pool2d_backward(dy, indices, dx.shape, out=dx)
        return dx

    def _compile(self, net: Builder, x: Shape) -> None:
        net.max_pool2d(x, self.kernel_size, **self._geometry)


class AvgPool2d(_Pool2d):
    """Mean of each window: [N, H, W, C] -> [N, OH, OW, C].

    kernel_size, stride, padding: as in `MaxPool2d`. count_include_pad: whether padding counts as
    zeros; by default the mean is over the pixels inside the image, as in TensorFlow. The gradient
    of a window is shared equally.
    """

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Padding = "valid",
        count_include_pad: bool = False,
    ) -> None:
        """No parameters to make."""
        super().__init__(kernel_size, stride, padding)
        self.count_include_pad = bool(count_include_pad)

    @property
    def _averaging(self) -> dict[str, Any]:
        return {**self._geometry, "count_include_pad": self.count_include_pad}

    def _forward(self, x: Array, place: Place) -> tuple[Array, Any]:
        y = self._output(x, place)
        ops.avg_pool2d(x, self.kernel_size, **self._averaging, out=y)
        return y, None

    def _backward(self, dy: Array, kept: None, place: Place | None) -> Array | None:
        if place is None:
            return None
        dx = self._input_gradient(dy, place)
        ops.avg_pool2d_backward(dy, dx.shape, self.kernel_size, **self._averaging, out=dx)
        return dx

    def _compile(self, net: Builder, x: Shape) -> None:
        net.avg_pool2d(x, self.kernel_size, **self._averaging)

    def _arguments(self) -> str:
        return super()._arguments() + (", count_include_pad=True" if self.count_include_pad else "")


class GlobalAvgPool2d(Layer):
    """Mean of each channel over the whole image: [N, H, W, C] -> [N, C].

    dx is dy / (H * W) at every pixel. Lin, Chen & Yan 2014, "Network in network".
    """

    _owns_results = True

    def _forward(self, x: Array, place: Place) -> tuple[Array, Any]:
        y = self._output(x, place)
        ops.global_avg_pool2d(x, out=y)
        return y, None

    def _backward(self, dy: Array, kept: None, place: Place | None) -> Array | None:
        if place is None:
            return None
        dx = self._input_gradient(dy, place)
        ops.global_avg_pool2d_backward(dy, dx.shape, out=dx)
        return dx

    def _compile(self, net: Builder, x: Shape) -> None:
        net.avg_pool2d(x, x[1:3], None, "valid", False)

    def _output_shape(self, x: Shape) -> Shape:
        self._expect_axes(x, "[N, H, W, C]", "write x[None] for one image, x[..., None] for C = 1")
        if 0 in x[1:]:
            self._refuse(f"x has shape {x}; expected at least one pixel and one channel.")
        return x[0], x[3]
