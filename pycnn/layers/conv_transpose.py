"""Transposed convolution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn import init
from pycnn.graph.compile import Lowering
from pycnn.graph.values import Shape
from pycnn.layers.arguments import shape_by
from pycnn.layers.conv import Convolution
from pycnn.ops import conv_transpose2d_output_shape, prepared
from pycnn.ops.activations import NONE, Activation
from pycnn.ops.arrays import Array, Padding, Pair, pair


class ConvTranspose2d(Convolution):
    """Transposed convolution of images: [N, H, W, in_channels] -> [N, OH, OW, out_channels].

    y[n, oh, ow, oc] = bias[oc] + sum of x[n, h, w, c] * weight[kh, kw, oc, c] over the h, w, kh,
    kw, c with h * stride - top + kh * dilation = oh, w * stride - left + kw * dilation = ow

    It enlarges maps: OH = (H - 1) * stride - top - bottom + dilation * (KH - 1) + output_padding
    + 1, as in PyTorch. kernel_size, stride, dilation: an int, (h, w), or [1, h, w, 1]. padding: an
    int, (h, w), or ((top, bottom), (left, right)), pixels that are cut off; "same" is TensorFlow's,
    OH = H * stride. output_padding: an int or (h, w), pixels more behind, less than stride or
    dilation. groups, bias, rng, algorithm (of the convolution whose gradient it is): as in
    `Conv2d`.

    weight: [KH, KW, out_channels / groups, in_channels] as in TensorFlow, at first normal with the
    variance 2 / (products of an output, KH * KW * in_channels / (groups * stride_h * stride_w)).
    Raises ValueError for arguments out of range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Padding = 0,
        output_padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        rng: np.random.Generator | int | None = None,
        algorithm: str = "auto",
    ) -> None:
        """Draw the weight, with a bias of zeros."""
        super().__init__(in_channels, out_channels, padding, groups, algorithm)
        who = "ConvTranspose2d"
        self.kernel_size = pair(kernel_size, who, "kernel_size")
        self.stride = pair(stride, who, "stride")
        self.output_padding = pair(output_padding, who, "output_padding", 0)
        self.dilation = pair(dilation, who, "dilation")
        shape = (*self.kernel_size, out_channels // groups, in_channels)
        image = (1, 2**20, 2**20, in_channels)  # refuses a bad padding now: an image of any size
        shape_by(self, conv_transpose2d_output_shape, image, shape, **self.geometry)
        products = math.prod(self.kernel_size) * in_channels / (groups * math.prod(self.stride))
        self.own(init.normal(shape, math.sqrt(2 / products), init.generator(rng)), bias)

    @property
    def geometry(self) -> dict[str, Any]:
        """The options of the operators."""
        names = "stride", "padding", "output_padding", "dilation", "groups"
        return dict(zip(names, self.options, strict=True))

    @property
    def options(self) -> tuple[Any, ...]:
        """(stride, padding, output_padding, dilation, groups)."""
        return self.stride, self.padding, self.output_padding, self.dilation, self.groups

    def shape(self, x: Shape) -> Any:
        """For C++."""
        return prepared.transposed(x, self.weight.data.shape, self.options)

    def infer_shape(self, x: Shape) -> Shape:
        """[N, H, W, in_channels] -> [N, OH, OW, out_channels]."""
        self.expect_channels(x, self.in_channels, "in_channels")
        weight = self.weight.data.shape
        return shape_by(self, conv_transpose2d_output_shape, x, weight, **self.geometry)

    def scaled(self, scale: Array) -> Array:
        """The weight, whose channels of y are those of the group of its channel of x."""
        by_group = scale.reshape(self.groups, -1).T  # [OC/groups, groups]
        scaled: Array = self.weight.data * by_group.repeat(self.in_channels // self.groups, axis=1)
        return scaled

    def compute(self, x: Array, out: Array) -> None:
        """The sum of the formula above."""
        arrays, how = (x, self.weight.data, self.bias_data), self.algorithm_for(x)
        prepared.conv_transpose2d(*arrays, self.shape(x.shape), NONE, how, out)

    def lower_with(self, to: Lowering, activation: Activation = NONE) -> None:
        """One step, with what stands behind it."""
        weight, bias = self.weight.data, self.bias_data
        shape = self.shape(to.shapes[0])
        to.net.add_conv_transpose2d(to.x[0], to.y[0], shape, weight, bias, activation)

    def gradients(self, dy: Array, dx: Array | None, x: Array, y: None, saved: Any) -> None:
        """The convolution of dy, and with x and dy changed over its gradient of the weight."""
        shape, how = self.shape(x.shape), self.algorithm_for(x)
        self.weight.add_gradient(
            lambda out: prepared.conv_transpose2d_backward_weight(x, dy, shape, how, out)
        )
        if self.bias is not None:
            self.bias.add_gradient(lambda out: prepared.conv2d_backward_bias(dy, out))
        if dx is not None:
            prepared.conv_transpose2d_backward_input(dy, self.weight.data, shape, how, dx)

    def notes(self, x: Shape | None) -> str:
        """The algorithms of the three directions."""
        if x is None:
            return ""
        mirror = self.shape(x).mirror
        names = "backward_input", "forward", "backward_weight"
        forward, dx, dweight = (mirror.choice(direction)[0] for direction in names)
        return f"forward {forward}, gradients {dx}, {dweight}"

    def flop_per_image(self, input_shape: tuple[int | None, ...]) -> int:
        """2 * H * W * KH * KW * in_channels * (out_channels / groups)."""
        _, H, W, _ = input_shape
        assert H is not None
        assert W is not None
        return 2 * H * W * self.weight.data.size

    def _arguments(self) -> str:
        text = super()._arguments()
        return text + (
            f", output_padding={self.output_padding}" if self.output_padding != (0, 0) else ""
        )
