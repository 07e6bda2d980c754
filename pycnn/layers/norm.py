"""Batch normalisation."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pycnn import ops
from pycnn.inference import Builder
from pycnn.layers.arguments import positive
from pycnn.layers.base import Layer
from pycnn.layers.memory import Place
from pycnn.layers.parameter import Parameter
from pycnn.layers.run import Shape
from pycnn.ops.arrays import Array, number


class Kept(NamedTuple):
    """What forward leaves for backward; weight and bias as forward saw them."""

    x: Array
    weight: Array
    bias: Array
    mean: Array
    var: Array
    activation: str | None


class BatchNorm2d(Layer):
    """Each channel with mean 0 and variance 1, then scaled and shifted: [N, H, W, C], same shape.

    y = (x - mean) / sqrt(var + eps) * weight + bias      (Ioffe & Szegedy 2015)

    In training mean and var are those of the batch, over its M = N * H * W pixels; var is biased,
    sum of (x - mean)^2 / M. Each training forward moves the running statistics, as in PyTorch:

    running_mean <- (1 - momentum) * running_mean + momentum * mean
    running_var  <- (1 - momentum) * running_var  + momentum * var * M / (M - 1)

    In eval mode mean and var are the running ones, and `compile_inference` folds them into the
    convolution before the layer. weight (gamma): [channels], ones at first; bias (beta):
    [channels], zeros; weight decay skips both. running_mean, running_var: [channels], zeros and
    ones at first, in `state_dict()` beside the parameters.

    momentum: from 0 to 1; eps: above 0. A Conv2d right before needs no bias: the mean takes it
    away, write `bias=False`. In a `Sequential` a ReLU right behind runs in the same pass. Raises
    ValueError for arguments out of range, and in training for a batch of a single pixel.
    """

    weight: Parameter
    bias: Parameter
    _owns_results = True
    _buffer_names = ("running_mean", "running_var")

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        """The identity, but for the statistics."""
        super().__init__()
        self.channels = positive("BatchNorm2d", "channels", channels)
        self.momentum, self.eps = number(momentum), number(eps)
        if not 0 <= self.momentum <= 1:
            self._refuse(f"momentum is {momentum!r}; expected a number from 0 to 1.")
        if not 0 < self.eps < np.inf:
            self._refuse(f"eps is {eps!r}; expected a finite number above 0.")
        self.weight = Parameter(np.ones(channels, np.float32), "weight", decays=False)
        self.bias = Parameter(np.zeros(channels, np.float32), "bias", decays=False)
        self.running_mean = np.zeros(channels, np.float32)
        self.running_var = np.ones(channels, np.float32)

    @property
    def _works_in_place(self) -> bool:  # type: ignore[override]
        return not self.training  # backward reads x

    @property
    def _gradient_in_place(self) -> bool:
        return True

    def _forward(self, x: Array, place: Place) -> tuple[Array, Any]:
        return self._normalise(x, self._output(x, place), None)

    def _normalise(self, x: Array, y: Array, activation: str | None) -> tuple[Array, Kept | None]:
        """(y, what `_gradients` needs)."""
        weight, bias = self.weight.data, self.bias.data
        if not self.training:
            running = self.running_mean, self.running_var
            ops.batch_norm_inference(
                x, weight, bias, *running, eps=self.eps, activation=activation, out=y
            )
            return y, None
        if x.size == self.channels:
            self._refuse(
                f"x has shape {x.shape} in training, one number a channel, whose variance is 0; "
                "expected at least two: use a larger batch or larger images, or eval()."
            )
        # The mask of relu is computed again from these: not from an array that others may change.
        kept = self._buffers.get("kept", (4, self.channels), x.dtype)
        kept[0], kept[1] = weight, bias
        ops.batch_norm(
            x,
            kept[0],
            kept[1],
            running_mean=self.running_mean,
            running_var=self.running_var,
            momentum=self.momentum,
            eps=self.eps,
            activation=activation,
            out=(y, kept[2], kept[3]),
        )
        return y, Kept(x, kept[0], kept[1], kept[2], kept[3], activation)

    def _backward(self, dy: Array, kept: Kept, place: Place | None) -> Array | None:
        return self._gradients(dy, kept, None if place is None else self._input_gradient(dy, place))

    def _gradients(self, dy: Array, kept: Kept, dx: Array | None) -> Array | None:
        def run(dweight: Array, dbias: Array) -> None:
            ops.batch_norm_backward(
                dy,
                *kept[:5],
                eps=self.eps,
                activation=kept.activation,
                input_gradient=dx is not None,
                out=(dx, dweight, dbias),
            )

        self.weight.add_gradient(lambda dw: self.bias.add_gradient(lambda db: run(dw, db)))
        return dx

    def _compile(self, net: Builder, x: Shape) -> None:
        self._compile_with(net, relu=False)

    def _compile_with(self, net: Builder, relu: bool) -> None:
        vectors = self.weight.data, self.bias.data, self.running_mean, self.running_var
        net.batch_norm(*vectors, eps=self.eps, relu=relu)

    def _output_shape(self, x: Shape) -> Shape:
        self._expect_channels(x, self.channels, "channels")
        return x

    def _arguments(self) -> str:
        return f"{self.channels}, momentum={self.momentum}, eps={self.eps}"
