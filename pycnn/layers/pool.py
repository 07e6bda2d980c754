"""Pooling: each window of an image becomes one pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn import ops
from pycnn.graph.compile import Lowering
from pycnn.graph.values import Shape
from pycnn.layers.arguments import frozen, shape_by
from pycnn.layers.base import Keeps, Layer
from pycnn.ops.arrays import Array, Padding, Pair, pair
from pycnn.ops.pool2d import pool2d_shape


class _Pool2d(Layer):
    reads = ""

    def __init__(
        self, kernel_size: Pair, stride: Pair | None = None, padding: Padding = "valid"
    ) -> None:
        super().__init__()
        who = type(self).__name__
        self.kernel_size = pair(kernel_size, who, "kernel_size")
        self.stride = self.kernel_size if stride is None else pair(stride, who, "stride")
        self.padding = frozen(padding)
        shape_by(self, self._pooled_shape, (1, *self.kernel_size, 1))  # refuses a bad padding now

    @property
    def geometry(self) -> dict[str, Any]:
        """The options of the operators."""
        return {"stride": self.stride, "padding": self.padding}

    def _pooled_shape(self, x: Shape) -> Shape:
        return tuple(ops.pool2d_output_shape(x, self.kernel_size, **self.geometry))

    def _shape(self, x: Shape) -> Any:
        """For C++."""
        options = self.kernel_size, self.stride, self.padding
        return pool2d_shape("compile_inference", x, *options)

    def infer_shape(self, x: Shape) -> Shape:
        """[N, H, W, C] -> [N, OH, OW, C]."""
        self.expect_axes(x, "[N, H, W, C]", "write x[None] for one image, x[..., None] for C = 1")
        return shape_by(self, self._pooled_shape, x)

    def _arguments(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding!r}"


class MaxPool2d(_Pool2d):
    """Maximum of each window: [N, H, W, C] -> [N, OH, OW, C].

    kernel_size: an int, (h, w), or the lecture's [1, h, w, 1]; stride: alike, the window unless
    given; padding: "same" or "valid" as in TensorFlow, an int, (h, w), or
    ((top, bottom), (left, right)), smaller than the window. Padding never wins, the first maximum
    does, and NaN wins over numbers. The gradient of a window goes to its maximum.
    """

    def keeps(self, x: Shape) -> Keeps:
        """Which pixel each maximum is."""
        return [((None, *self.infer_shape(x)[1:]), np.int32)] if self.training else []

    def compute(self, x: Array, out: Array, *indices: Array) -> None:
        """The maxima, in training with their places."""
        if indices:
            both = out, indices[0]
            ops.max_pool2d(x, self.kernel_size, **self.geometry, return_indices=True, out=both)
        else:
            ops.max_pool2d(x, self.kernel_size, **self.geometry, out=out)

    def lower(self, to: Lowering) -> None:
        """One step."""
        to.net.add_max_pool2d(to.x[0], to.y[0], self._shape(to.shapes[0]))

    def gradients(self, dy: Array, dx: Array | None, x: None, y: None, saved: Any) -> None:
        """Dy to the places of the maxima."""
        if dx is not None:
            ops.max_pool2d_backward(dy, saved[0], dx.shape, out=dx)


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
    def averaging(self) -> dict[str, Any]:
        """The options of the operators."""
        return {**self.geometry, "count_include_pad": self.count_include_pad}

    def compute(self, x: Array, out: Array) -> None:
        """The means."""
        ops.avg_pool2d(x, self.kernel_size, **self.averaging, out=out)

    def lower(self, to: Lowering) -> None:
        """One step."""
        count = self.count_include_pad
        to.net.add_avg_pool2d(to.x[0], to.y[0], self._shape(to.shapes[0]), count)

    def gradients(self, dy: Array, dx: Array | None, x: None, y: None, saved: Any) -> None:
        """dy, shared equally."""
        if dx is not None:
            ops.avg_pool2d_backward(dy, dx.shape, self.kernel_size, **self.averaging, out=dx)

    def _arguments(self) -> str:
        return super()._arguments() + (", count_include_pad=True" if self.count_include_pad else "")


class GlobalAvgPool2d(Layer):
    """Mean of each channel over the whole image: [N, H, W, C] -> [N, C].

    dx is dy / (H * W) at every pixel. Lin, Chen & Yan 2014, "Network in network".
    """

    reads = ""

    def compute(self, x: Array, out: Array) -> None:
        """The means."""
        ops.global_avg_pool2d(x, out=out)

    def lower(self, to: Lowering) -> None:
        """An average over one window."""
        x = to.shapes[0]
        shape = pool2d_shape("compile_inference", x, x[1:3], None, "valid")
        to.net.add_avg_pool2d(to.x[0], to.y[0], shape, False)

    def gradients(self, dy: Array, dx: Array | None, x: None, y: None, saved: Any) -> None:
        """Dy / (H * W) at every pixel."""
        if dx is not None:
            ops.global_avg_pool2d_backward(dy, dx.shape, out=dx)

    def infer_shape(self, x: Shape) -> Shape:
        """[N, H, W, C] -> [N, C]."""
        self.expect_axes(x, "[N, H, W, C]", "write x[None] for one image, x[..., None] for C = 1")
        if 0 in x[1:]:
            self.refuse(f"x has shape {x}; expected at least one pixel and one channel.")
        return x[0], x[3]
