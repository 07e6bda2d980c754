"""Convolution of images and of signals."""

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


class Convolution(Layer):
    """What convolutions have in common: most of their arguments, and their parameters."""

    weight: Parameter
    bias: Parameter | None
    kernel_size: Any
    stride: Any
    dilation: Any

    def __init__(
        self, in_channels: int, out_channels: int, padding: Padding, groups: int, algorithm: str
    ) -> None:
        """Check them."""
        super().__init__()
        who = type(self).__name__
        self.in_channels = positive(who, "in_channels", in_channels)
        self.out_channels = positive(who, "out_channels", out_channels)
        self.padding = frozen(padding)
        self.groups = positive(who, "groups", groups)
        self.algorithm = algorithm_name(algorithm, who)
        if in_channels % groups or out_channels % groups:
            self.refuse(
                f"groups is {groups}; expected a divisor of in_channels = {in_channels} and "
                f"out_channels = {out_channels}."
            )

    def own(self, weight: Array, bias: bool) -> None:
        """Begin with this weight, and a bias of zeros."""
        self.weight = Parameter(weight, "weight")
        self.bias = None
        if bias:
            self.bias = Parameter(np.zeros(self.out_channels, np.float32), "bias", decays=False)

    def algorithm_for(self, x: Array) -> str:
        """float64 has the plain loops only."""
        return self.algorithm if x.dtype == np.float32 else "auto"

    @property
    def bias_data(self) -> Array | None:
        """The values of the bias, if there is one."""
        return None if self.bias is None else self.bias.data

    def scaled(self, scale: Array) -> Array:
        """The weight, with each output channel times its number."""
        return self.weight.data * scale

    def lower(self, to: Lowering) -> None:
        """One step."""
        self.lower_with(to)

    def lower_with(self, to: Lowering, activation: Activation = NONE) -> None:
        """One step, with what stands behind it."""
        raise NotImplementedError(f"{type(self).__name__} must define lower_with.")

    def _arguments(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        text += f", stride={self.stride}, padding={self.padding!r}"
        if self.dilation not in (1, (1, 1)):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.algorithm != "auto":
            text += f", algorithm={self.algorithm!r}"
        return text + (", bias=False" if self.bias is None else "")


class Conv2d(Convolution):
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
        super().__init__(in_channels, out_channels, padding, groups, algorithm)
        self.kernel_size = pair(kernel_size, "Conv2d", "kernel_size")
        self.stride = pair(stride, "Conv2d", "stride")
        self.dilation = pair(dilation, "Conv2d", "dilation")
        shape = (*self.kernel_size, in_channels // groups, out_channels)
        _refuse_bad_padding(self, self.options, shape)
        self.own(init.he_normal(shape, init.generator(rng)), bias)

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

    def infer_shape(self, x: Shape) -> Shape:
        """[N, H, W, in_channels] -> [N, OH, OW, out_channels]."""
        self.expect_channels(x, self.in_channels, "in_channels")
        return shape_by(self, ops.conv2d_output_shape, x, self.weight.data.shape, **self.geometry)

    def compute(self, x: Array, out: Array) -> None:
        """The sum of the formula above."""
        how = self.algorithm_for(x)
        prepared.conv2d(x, self.weight.data, self.bias_data, self.options, out, algorithm=how)

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

    def flop_per_image(self, input_shape: tuple[int | None, ...]) -> int:
        """2 * OH * OW * KH * KW * (in_channels / groups) * out_channels."""
        _, OH, OW, _ = self.output_shape(input_shape)
        assert OH is not None
        assert OW is not None
        return 2 * int(OH) * int(OW) * self.weight.data.size


def _refuse_bad_padding(layer: Convolution, options: tuple[Any, ...], weight: Shape) -> None:
    """Ask `ops` now, with the smallest image that works, not at the first forward."""
    H, W = (d * (k - 1) + 1 for d, k in zip(options[2], weight, strict=False))
    shape_by(layer, _output_shape, (1, H, W, layer.in_channels), weight, options)


def _output_shape(x: Shape, weight: Shape, options: tuple[Any, ...]) -> Shape:
    stride, padding, dilation, groups = options
    geometry = {"padding": padding, "dilation": dilation, "groups": groups}
    return ops.conv2d_output_shape(x, weight, stride=stride, **geometry)


class Conv1d(Convolution):
    """Convolution of signals: [N, L, in_channels] -> [N, OL, out_channels].

    A `Conv2d` of images of one row: y[n, ol, oc] = bias[oc] + sum over k, c of
    x[n, ol * stride - before + k * dilation, c] * weight[k, c, oc].

    kernel_size, stride, dilation: ints. padding: "same" or "valid" as in TensorFlow, an int, or
    (before, after). groups, bias, rng, algorithm: as in `Conv2d`. weight:
    [K, in_channels / groups, out_channels]. Raises ValueError for arguments out of range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: Padding = "valid",
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        rng: np.random.Generator | int | None = None,
        algorithm: str = "auto",
    ) -> None:
        """Draw the weight, with a bias of zeros."""
        super().__init__(in_channels, out_channels, padding, groups, algorithm)
        self.kernel_size = positive("Conv1d", "kernel_size", kernel_size)
        self.stride = positive("Conv1d", "stride", stride)
        self.dilation = positive("Conv1d", "dilation", dilation)
        shape = (1, self.kernel_size, in_channels // groups, out_channels)
        _refuse_bad_padding(self, self.options, shape)
        self.own(init.he_normal(shape, init.generator(rng))[0], bias)

    @property
    def options(self) -> tuple[Any, ...]:
        """(stride, padding, dilation, groups) of the Conv2d."""
        return (1, self.stride), of_one_row(self.padding), (1, self.dilation), self.groups

    def infer_shape(self, x: Shape) -> Shape:
        """[N, L, in_channels] -> [N, OL, out_channels]."""
        expect_signals(self, x)
        if x[2] != self.in_channels:
            self.refuse(
                f"x has shape {x}, C = {x[2]} channels in [N, L, C]; expected in_channels = "
                f"{self.in_channels}"
                + (
                    ": for [N, C, L] write x.transpose(0, 2, 1)."
                    if x[1] == self.in_channels
                    else "."
                )
            )
        weight = (1, *self.weight.data.shape)
        y = shape_by(self, _output_shape, (x[0], 1, *x[1:]), weight, self.options)
        return y[0], *y[2:]

    def compute(self, x: Array, out: Array) -> None:
        """The sum of the formula above."""
        weight, how = self.weight.data[None], self.algorithm_for(x)
        prepared.conv2d(
            x[:, None], weight, self.bias_data, self.options, out[:, None], algorithm=how
        )

    def lower_with(self, to: Lowering, activation: Activation = NONE) -> None:
        """One step, with what stands behind it."""
        weight, (N, L, C) = self.weight.data[None], to.shapes[0]
        shape = conv2d_shape("compile_inference", (N, 1, L, C), weight.shape, *self.options)
        arrays = np.ascontiguousarray(weight), self.bias_data
        to.net.add_conv2d(to.x[0], to.y[0], shape, *arrays, activation, "none", -1)

    def gradients(self, dy: Array, dx: Array | None, x: Array, y: None, saved: Any) -> None:
        """The adjoint of the sum, with respect to weight and x."""
        options, how = self.options, self.algorithm_for(x)
        images, maps = x[:, None], dy[:, None]
        self.weight.add_gradient(
            lambda out: prepared.conv2d_backward_weight(images, maps, options, out[None], how)
        )
        if self.bias is not None:
            self.bias.add_gradient(lambda out: prepared.conv2d_backward_bias(maps, out))
        if dx is not None:
            weight = self.weight.data[None]
            prepared.conv2d_backward_input(maps, weight, options, dx[:, None], how)

    def flop_per_image(self, input_shape: tuple[int | None, ...]) -> int:
        """2 * OL * K * (in_channels / groups) * out_channels."""
        return 2 * int(self.output_shape(input_shape)[1]) * self.weight.data.size


def of_one_row(padding: Padding) -> Padding:
    """That of signals as that of images of one row."""
    return padding if isinstance(padding, str) else ((0, 0), padding)  # type: ignore[return-value]


def expect_signals(layer: Layer, x: Shape) -> None:
    """Refuse other axes than [N, L, C]."""
    layer.expect_axes(x, "[N, L, C]", "write x[None] for one signal, x[..., None] for C = 1")
