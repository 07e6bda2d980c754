"""Convolution."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn import init, ops
from pycnn.graph.compile import Lowering
from pycnn.graph.values import Shape
from pycnn.layers.arguments import frozen, positive, shape_by
from pycnn.layers.base import Layer
from pycnn.layers.parameter import Parameter
from pycnn.ops import prepared
from pycnn.ops.activations import NONE, Activation
from pycnn.ops.arrays import Array, Padding, Pair, algorithm_name, pair
from pycnn.ops.conv2d import conv2d_shape


class Conv2d(Layer):
    """Convolution of images: [N, H, W, in_channels] -> [N, OH, OW, out_channels].

    y[n, oh, ow, oc] = bias[oc] + sum over kh, kw, c of x[n, h, w, c] * weight[kh, kw, c, oc]
    with h = oh * stride - top + kh * dilation, w = ow * stride - left + kw * dilation

    kernel_size, stride, dilation: an int, (h, w), or the lecture's [1, h, w, 1]. padding: "same" or
    "valid" as in TensorFlow, an int, (h, w), or ((top, bottom), (left, right)), in pixels. groups:
    channels are cut into that many parts, and each part of the output sees one part of the input.

    weight: [KH, KW, in_channels / groups, out_channels], He normal at first (`init.he_normal`);
    bias: [out_channels], zero at first, or None with `bias=False`. rng: where the initial weights
    come from, a np.random.Generator, an int that seeds a new one, or None for the package's own
    (see `pycnn.seed`). Layers of one shape with the same int begin alike. algorithm: of all three
    directions on float32, see `ops.conv2d`; with another than "auto" a Sequential runs the layer by
    itself, never in a block. `compile_inference` takes no notice of it.

    Raises ValueError for arguments out of range. Same as tf.nn.conv2d (filters are not flipped).
    """

    weight: Parameter

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Padding = "valid",
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        rng: np.random.Generator | int | None = None,
        algorithm: str = "auto",
    ) -> None:
        """Draw the weight, with a bias of zeros."""
        super().__init__()
        self.in_channels = positive("Conv2d", "in_channels", in_channels)
        self.out_channels = positive("Conv2d", "out_channels", out_channels)
        self.kernel_size = pair(kernel_size, "Conv2d", "kernel_size")
        self.stride = pair(stride, "Conv2d", "stride")
        self.padding = frozen(padding)
        self.dilation = pair(dilation, "Conv2d", "dilation")
        self.groups = positive("Conv2d", "groups", groups)
        self.algorithm = algorithm_name(algorithm, "Conv2d")
        if in_channels % groups or out_channels % groups:
            self.refuse(
                f"groups is {groups}; expected a divisor of in_channels = {in_channels} and "
                f"out_channels = {out_channels}."
            )
        shape = (*self.kernel_size, in_channels // groups, out_channels)
        self._refuse_bad_padding(shape)
        self.weight = Parameter(init.he_normal(shape, init.generator(rng)), "weight")
        self.bias = None
        if bias:
            self.bias = Parameter(np.zeros(out_channels, np.float32), "bias", decays=False)

    @property
    def geometry(self) -> dict[str, Any]:
        """The options of the operators."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    @property
    def options(self) -> tuple[Any, ...]:
        """(stride, padding, dilation, groups)."""
        return self.stride, self.padding, self.dilation, self.groups

    def algorithm_for(self, x: Array) -> str:
        """float64 has the plain loops only."""
        return self.algorithm if x.dtype == np.float32 else "auto"

    @property
    def bias_data(self) -> Array | None:
        """The values of the bias, if there is one."""
        return None if self.bias is None else self.bias.data

    def infer_shape(self, x: Shape) -> Shape:
        """[N, H, W, in_channels] -> [N, OH, OW, out_channels]."""
        self.expect_channels(x, self.in_channels, "in_channels")
        return shape_by(self, ops.conv2d_output_shape, x, self.weight.data.shape, **self.geometry)

    def compute(self, x: Array, out: Array) -> None:
        """The sum of the formula above."""
        how = self.algorithm_for(x)
        prepared.conv2d(x, self.weight.data, self.bias_data, self.options, out, algorithm=how)

    def lower(self, to: Lowering) -> None:
        """One step."""
        self.lower_with(to)

    def lower_with(
        self,
        to: Lowering,
        activation: Activation = NONE,
        pool: str = "none",
        residual: int = -1,
    ) -> None:
        """One step, with what stands behind it."""
        weight, bias = self.weight.data, self.bias_data
        shape = conv2d_shape("compile_inference", to.shapes[0], weight.shape, **self.geometry)
        to.net.add_conv2d(to.x[0], to.y[0], shape, weight, bias, activation, pool, residual)

    def gradients(self, dy: Array, dx: Array | None, x: Array, y: None, saved: Any) -> None:
        """The adjoint of the sum, with respect to weight and x."""
        options, how = self.options, self.algorithm_for(x)
        self.weight.add_gradient(
            lambda out: prepared.conv2d_backward_weight(x, dy, options, out, how)
        )
        if self.bias is not None:
            self.bias.add_gradient(lambda out: prepared.conv2d_backward_bias(dy, out))
        if dx is not None:
            prepared.conv2d_backward_input(dy, self.weight.data, options, dx, how)

    def notes(self, x: Shape | None) -> str:
        """The algorithms of the three directions."""
        if x is None:
            return ""
        chosen = ops.explain_conv2d(x, self.weight.data.shape, **self.geometry)
        return (
            f"forward {chosen.forward}, gradients {chosen.backward_input}, {chosen.backward_weight}"
        )

    def _refuse_bad_padding(self, weight_shape: Shape) -> None:
        """Ask `ops` now, with the smallest image that works, not at the first forward."""
        H, W = (d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel_size, strict=True))
        image = (1, H, W, self.in_channels)
        shape_by(self, ops.conv2d_output_shape, image, weight_shape, **self.geometry)

    def flop_per_image(self, input_shape: tuple[int | None, ...]) -> int:
        """2 * OH * OW * KH * KW * (in_channels / groups) * out_channels."""
        _, OH, OW, _ = self.output_shape(input_shape)
        assert OH is not None
        assert OW is not None
        return 2 * int(OH) * int(OW) * self.weight.data.size

    def _arguments(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        text += f", stride={self.stride}, padding={self.padding!r}"
        if self.dilation != (1, 1):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.algorithm != "auto":
            text += f", algorithm={self.algorithm!r}"
        return text + (", bias=False" if self.bias is None else "")
