"""Pooling: each window of an image becomes one pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn.graph.compile import Lowering
from pycnn.graph.values import Shape
from pycnn.layers.arguments import frozen, positive, shape_by
from pycnn.layers.base import Keeps, Layer
from pycnn.layers.conv import expect_signals, of_one_row
from pycnn.ops import prepared
from pycnn.ops.arrays import Array, Padding, Pair, flag, pair
from pycnn.ops.pool2d import pool2d_shape
from pycnn.ops.whole_pool2d import OutputSize, adaptive_shape


class _Pool(Layer):
    """Shapes of arrays, whichever windows they have and whatever becomes of a window."""

    reads = ""
    _rule: Any  # of `ops`: (op, x, *_options) -> the shape for C++

    @property
    def _options(self) -> tuple[Any, ...]:
        raise NotImplementedError(f"{type(self).__name__} must define _options.")

    def _as_images(self, x: Shape) -> Shape:
        """[N, H, W, C] of x."""
        self.expect_axes(x, "[N, H, W, C]", "write x[None] for one image, x[..., None] for C = 1")
        return x

    def _as_result(self, maps: Shape) -> Shape:
        """What the layer makes of maps [N, OH, OW, C]: a view of them."""
        return maps

    def _shape(self, x: Shape) -> Any:
        return prepared.pool2d(self._rule, self._as_images(x), self._options)

    def infer_shape(self, x: Shape) -> Shape:
        """[N, H, W, C] -> [N, OH, OW, C]."""
        images = self._as_images(x)
        found = shape_by(self, lambda: self._rule("pool2d", images, *self._options).output_shape)
        return self._as_result(found)


class _Max(_Pool):
    def keeps(self, x: Shape) -> Keeps:
        """Which pixel each maximum is."""
        return [((None, *self.infer_shape(x)[1:]), np.int32)] if self.training else []

    def compute(self, x: Array, out: Array, *indices: Array) -> None:
        """The maxima, in training with their places."""
        shape = self._shape(x.shape)
        maps = shape.output_shape
        where = indices[0].reshape(maps) if indices else None
        prepared.max_pool2d(x.reshape(shape.input_shape), shape, out.reshape(maps), where)

    def lower(self, to: Lowering) -> None:
        """One step."""
        to.net.add_max_pool2d(to.x[0], to.y[0], self._shape(to.shapes[0]))

    def gradients(self, dy: Array, dx: Array | None, x: None, y: None, saved: Any) -> None:
        """Dy to the places of the maxima."""
        if dx is not None:
            shape = self._shape(dx.shape)
            maps = shape.output_shape
            dx, where = dx.reshape(shape.input_shape), saved[0].reshape(maps)
            prepared.max_pool2d_backward(dy.reshape(maps), where, dx)


class _Mean(_Pool):
    count_include_pad = False

    def compute(self, x: Array, out: Array) -> None:
        """The means."""
        shape = self._shape(x.shape)
        images, maps = x.reshape(shape.input_shape), out.reshape(shape.output_shape)
        prepared.avg_pool2d(images, shape, self.count_include_pad, maps)

    def lower(self, to: Lowering) -> None:
        """One step."""
        count = self.count_include_pad
        to.net.add_avg_pool2d(to.x[0], to.y[0], self._shape(to.shapes[0]), count)

    def gradients(self, dy: Array, dx: Array | None, x: None, y: None, saved: Any) -> None:
        """dy, shared equally."""
        if dx is not None:
            shape = self._shape(dx.shape)
            images, maps = dx.reshape(shape.input_shape), dy.reshape(shape.output_shape)
            prepared.avg_pool2d_backward(maps, shape, self.count_include_pad, images)


class _Windows(_Pool):
    """Windows that move."""

    _rule = staticmethod(pool2d_shape)
    _size: Any = staticmethod(pair)  # (argument, class, its name) -> what it is if it is right

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Padding = "valid",
        dilation: Pair = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        who = type(self).__name__
        self.kernel_size = self._size(kernel_size, who, "kernel_size")
        self.stride = self.kernel_size if stride is None else self._size(stride, who, "stride")
        self.padding = frozen(padding)
        self.dilation = self._size(dilation, who, "dilation")
        self.ceil_mode = flag(ceil_mode, who, "ceil_mode")
        kernel, _, _, apart, _ = self._options
        image = (1, *(d * (k - 1) + 1 for d, k in zip(apart, kernel, strict=True)), 1)
        shape_by(self, lambda: self._rule("pool2d", image, *self._options).output_shape)

    @property
    def _options(self) -> tuple[Any, ...]:
        return self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode

    def _arguments(self) -> str:
        text = f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding!r}"
        if self.dilation not in (1, (1, 1)):
            text += f", dilation={self.dilation}"
        return text + (", ceil_mode=True" if self.ceil_mode else "")


class _MeanWindows(_Mean, _Windows):
    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Padding = "valid",
        count_include_pad: bool = False,
        ceil_mode: bool = False,
        dilation: Pair = 1,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode)
        self.count_include_pad = bool(count_include_pad)

    def _arguments(self) -> str:
        return super()._arguments() + (", count_include_pad=True" if self.count_include_pad else "")


class _Signals(_Windows):
    """Windows of signals [N, L, C]: of images of one row."""

    _size = staticmethod(lambda value, who, name: positive(who, name, value))

    @property
    def _options(self) -> tuple[Any, ...]:
        kernel, stride, padding, dilation, ceil_mode = super()._options
        return (1, kernel), (1, stride), of_one_row(padding), (1, dilation), ceil_mode

    def _as_images(self, x: Shape) -> Shape:
        expect_signals(self, x)
        return (x[0], 1, *x[1:])

    def _as_result(self, maps: Shape) -> Shape:
        return maps[0], *maps[2:]


class MaxPool2d(_Max, _Windows):
    """Maximum of each window: [N, H, W, C] -> [N, OH, OW, C].

    kernel_size: an int, (h, w), or the lecture's [1, h, w, 1]; stride: alike, the window unless
    given; padding: "same" or "valid" as in TensorFlow, an int, (h, w), or
    ((top, bottom), (left, right)), smaller than the window. dilation: pixels from tap to tap.
    ceil_mode: sizes are rounded up, without a last window that begins in the padding behind the
    image, as in PyTorch and ONNX. Padding never wins, the first maximum does, and NaN wins over
    numbers. The gradient of a window goes to its maximum.
    """


class AvgPool2d(_MeanWindows):
    """Mean of each window: [N, H, W, C] -> [N, OH, OW, C].

    kernel_size, stride, padding, ceil_mode, dilation: as in `MaxPool2d`. count_include_pad: whether
    padding counts as zeros (what a last window of ceil_mode has past it never does); by default the
    mean is over the pixels inside the image, as in TensorFlow. The gradient of a window is shared
    equally.
    """


class MaxPool1d(_Max, _Signals):
    """Maximum of each window of a signal: [N, L, C] -> [N, OL, C].

    kernel_size, stride, dilation: ints; padding: "same", "valid", an int, or (before, after). Else
    as `MaxPool2d`.
    """


class AvgPool1d(_MeanWindows, _Signals):
    """Mean of each window of a signal: [N, L, C] -> [N, OL, C].

    kernel_size, stride, dilation: ints; padding: "same", "valid", an int, or (before, after). Else
    as `AvgPool2d`.
    """


class _Whole(_Pool):
    """Windows that share the image."""

    _rule = staticmethod(adaptive_shape)


class _Adaptive(_Whole):
    def __init__(self, output_size: OutputSize) -> None:
        super().__init__()
        self.output_size = tuple(output_size) if isinstance(output_size, list) else output_size
        shape_by(self, lambda: self._rule("pool2d", (1, 1, 1, 1), output_size).output_shape)

    @property
    def _options(self) -> tuple[Any, ...]:
        return (self.output_size,)

    def _arguments(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool2d(_Max, _Adaptive):
    """Maximum of each of OH x OW windows that share the image: [N, H, W, C] -> [N, OH, OW, C].

    output_size: an int, or (OH, OW); None keeps H or W. Window oh has the rows floor(oh H / OH) to
    ceil((oh + 1) H / OH) - 1, columns alike, as in PyTorch. Maximum and gradient: `MaxPool2d`.
    """


class AdaptiveAvgPool2d(_Mean, _Adaptive):
    """Mean of each of OH x OW windows that share the image: [N, H, W, C] -> [N, OH, OW, C].

    output_size and the windows: as in `AdaptiveMaxPool2d`. The gradient of a window is shared
    equally.
    """


class _Global(_Whole):
    _options = (1,)

    def _as_result(self, maps: Shape) -> Shape:
        return maps[0], maps[3]


class GlobalMaxPool2d(_Max, _Global):
    """Maximum of each channel over the whole image: [N, H, W, C] -> [N, C].

    The gradient goes to the first pixel that has it.
    """


class GlobalAvgPool2d(_Mean, _Global):
    """Mean of each channel over the whole image: [N, H, W, C] -> [N, C].

    dx is dy / (H * W) at every pixel. Lin, Chen & Yan 2014, "Network in network".
    """
