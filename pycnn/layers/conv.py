"""Convolution."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn import init, ops
from pycnn.inference import Builder
from pycnn.layers.arguments import frozen, positive
from pycnn.layers.base import Layer
from pycnn.layers.memory import Place
from pycnn.layers.parameter import Parameter
from pycnn.layers.run import Shape
from pycnn.ops.arrays import Array, Padding, Pair, algorithm_name, pair


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
    _owns_results = True

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
            self._refuse(
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
    def _geometry(self) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    def _algorithm(self, x: Array) -> str:
        """float64 has the plain loops only."""
        return self.algorithm if x.dtype == np.float32 else "auto"

    def _forward(self, x: Array, place: Place) -> tuple[Array, Any]:
        y = self._output(x, place)
        bias = None if self.bias is None else self.bias.data
        how = self._algorithm(x)
        ops.conv2d(x, self.weight.data, bias, **self._geometry, algorithm=how, out=y)
        return y, x

    def _backward(self, dy: Array, x: Array, place: Place | None) -> Array | None:
        weight = self.weight.data
        geometry = {**self._geometry, "algorithm": self._algorithm(x)}
        self.weight.add_gradient(
            lambda out: ops.conv2d_backward_weight(x, dy, weight.shape, **geometry, out=out)
        )
        if self.bias is not None:
            self.bias.add_gradient(lambda out: ops.conv2d_backward_bias(dy, out=out))
        if place is None:
            return None
        dx = self._input_gradient(dy, place)
        ops.conv2d_backward_input(dy, weight, x.shape, **geometry, out=dx)
        return dx

    def _compile(self, net: Builder, x: Shape) -> None:
        bias = None if self.bias is None else self.bias.data
        net.conv2d(x, self.weight.data, bias, self._geometry)

    def _output_shape(self, x: Shape) -> Shape:
        self._expect_channels(x, self.in_channels, "in_channels")
        return self._shape_by(ops.conv2d_output_shape, x, self.weight.data.shape, **self._geometry)

    def _refuse_bad_padding(self, weight_shape: Shape) -> None:
        """Ask `ops` now, with the smallest image that works, not at the first forward."""
        H, W = (d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel_size, strict=True))
        image = (1, H, W, self.in_channels)
        self._shape_by(ops.conv2d_output_shape, image, weight_shape, **self._geometry)

    def flop_per_image(self, input_shape: tuple[int | None, ...]) -> int:
        """2 * OH * OW * KH * KW * (in_channels / groups) * out_channels."""
        _, OH, OW, _ = self.output_shape(input_shape)
        assert OH is not None
        assert OW is not None
        return 2 * OH * OW * self.weight.data.size

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
