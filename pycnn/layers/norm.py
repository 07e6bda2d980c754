"""Normalisation, and scale and shift, channel by channel."""

from __future__ import annotations

import math

import numpy as np

from pycnn.graph.compile import Lowering
from pycnn.graph.values import Shape
from pycnn.layers.arguments import positive
from pycnn.layers.base import Keeps, Layer
from pycnn.layers.parameter import Parameter
from pycnn.layers.slot import CURRENT, Slot
from pycnn.ops import prepared
from pycnn.ops.activations import NONE, Activation
from pycnn.ops.arrays import Array, number


class Channelwise(Layer):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, all [channels], with what `vectors` says.

    weight: ones at first; bias: zeros; weight decay skips both.
    """

    weight: Parameter
    bias: Parameter
    gradient_in_place = 0
    eps: float

    def __init__(self, channels: int, name: str = "channels") -> None:
        """The identity; name: of the argument."""
        super().__init__()
        self.channels = positive(type(self).__name__, name, channels)
        self.weight = Parameter(np.ones(self.channels, np.float32), "weight", decays=False)
        self.bias = Parameter(np.zeros(self.channels, np.float32), "bias", decays=False)

    def vectors(self) -> tuple[Array, Array, Array, Array]:
        """weight, bias, mean, var of eval mode."""
        raise NotImplementedError(f"{type(self).__name__} must define vectors.")

    def apply(
        self, x: Array, out: Array, function: Activation = NONE, residual: Array | None = None
    ) -> None:
        """Out = function(y + residual)."""
        prepared.batch_norm_inference(x, self.vectors(), self.eps, function, residual, out)

    def lower(self, to: Lowering) -> None:
        """One step."""
        self.lower_with(to)

    def lower_with(self, to: Lowering, function: Activation = NONE, residual: int = -1) -> None:
        """One step, with what stands behind it."""
        to.net.add_batch_norm(to.x[0], to.y[0], *self.vectors(), self.eps, function, residual)

    def folded(self) -> tuple[Array, Array]:
        """(scale, shift) of eval mode, float64 [C]: y = x * scale + shift."""
        weight, bias, mean, var = (v.astype(np.float64) for v in self.vectors())
        scale = weight / np.sqrt(var + self.eps)
        return scale, bias - mean * scale


class ChannelAffine(Channelwise):
    """y = x * weight + bias, a trainable scale and shift for each channel: [N, ..., C], same shape.

    dx = dy * weight; dweight = sum of dy * x, dbias = sum of dy, over all axes but C. weight:
    [channels], ones at first; bias: [channels], zeros; weight decay skips both. In a compiled
    network it goes into the weights of the Conv2d or Linear before it, or behind it.
    """

    in_place = (0,)
    eps = 1e-300  # so that 1 + eps is 1: batch normalisation with mean 0 and variance 1, exactly

    def __init__(self, channels: int) -> None:
        """The identity."""
        super().__init__(channels)

    def vectors(self) -> tuple[Array, Array, Array, Array]:
        """No mean, and variance 1."""
        weight, bias = self.weight.data, self.bias.data
        return weight, bias, np.zeros_like(weight), np.ones_like(weight)

    def infer_shape(self, x: Shape) -> Shape:
        """The shape of x."""
        if len(x) < 2 or x[-1] != self.channels:
            self.refuse(
                f"x has shape {x}; expected [N, ..., C] with C = channels = {self.channels}."
            )
        return x

    def compute(self, x: Array, out: Array) -> None:
        """Out = x * weight + bias."""
        self.apply(x, out)

    def gradients(self, dy: Array, dx: Array | None, x: Array, y: None, saved: None) -> None:
        """The sums of a normalisation whose statistics are fixed; dx may be dy."""
        kept = np.stack(self.vectors())

        def run(dweight: Array, dbias: Array) -> None:
            out = None, dweight, dbias
            prepared.batch_norm_backward(dy, x, kept, self.eps, NONE, None, None, out)

        self.weight.add_gradient(lambda dw: self.bias.add_gradient(lambda db: run(dw, db)))
        if dx is not None:
            prepared.combine("multiply", dy, self.weight.data, dx)

    def _arguments(self) -> str:
        return f"{self.channels}"


class BatchNorm(Channelwise):
    """What `BatchNorm1d` and `BatchNorm2d` share: all but the axes of x."""

    _buffer_names = ("running_mean", "running_var")

    def __init__(self, channels: int, momentum: float, eps: float, name: str) -> None:
        """The identity, but for the statistics."""
        super().__init__(channels, name)
        self.momentum, self.eps = number(momentum), number(eps)
        if not 0 <= self.momentum <= 1:
            self.refuse(f"momentum is {momentum!r}; expected a number from 0 to 1.")
        if not 0 < self.eps < np.inf:
            self.refuse(f"eps is {eps!r}; expected a finite number above 0.")
        self.running_mean = np.zeros(self.channels, np.float32)
        self.running_var = np.ones(self.channels, np.float32)

    def vectors(self) -> tuple[Array, Array, Array, Array]:
        """With the running statistics."""
        return self.weight.data, self.bias.data, self.running_mean, self.running_var

    @property
    def in_place(self) -> tuple[int, ...]:  # type: ignore[override]
        """In training the statistics pass and backward read x."""
        return () if self.training else (0,)

    def keeps(self, x: Shape) -> Keeps:
        """weight, bias, mean and variance as forward saw them: [4, C]."""
        return [((4, self.channels), None)] if self.training else []

    def compute(self, x: Array, out: Array, *kept: Array) -> None:
        """The formula above."""
        slot = CURRENT.get()
        if kept and slot is not None and slot.synchronised:
            self._normalise_together(x, out, kept[0], slot)
        else:
            self.normalise(x, out, *kept)

    def _normalise_together(self, x: Array, out: Array, kept: Array, slot: Slot) -> None:
        """With the moments of all slots.

        Over slots of n_i pixels with mean m_i and variance v_i, M = sum n_i:
        mean = sum n_i m_i / M, var = sum n_i (v_i + (m_i - mean)^2) / M.
        """
        kept[0], kept[1] = self.weight.data, self.bias.data
        unmoved = np.zeros(self.channels, x.dtype), np.zeros(self.channels, x.dtype)
        prepared.batch_norm(x, kept, unmoved, 0.0, self.eps, NONE, None, out)
        n = np.full(self.channels, x.size // self.channels, np.float64)
        m, v = kept[2:].astype(np.float64)
        M, sums = slot.total(np.stack([n, n * m]))
        mean = sums / M
        var = slot.total((n * (v + (m - mean) ** 2))[None])[0] / M
        kept[2], kept[3] = mean, var
        prepared.batch_norm_inference(x, (*kept,), self.eps, NONE, None, out)
        if slot.leads:
            for running, value in (
                (self.running_mean, mean),
                (self.running_var, var * M / np.maximum(M - 1, 1)),
            ):
                running *= x.dtype.type(1 - self.momentum)
                running += (self.momentum * value).astype(x.dtype)

    def normalise(
        self,
        x: Array,
        out: Array,
        kept: Array | None = None,
        *,
        function: Activation = NONE,
        residual: Array | None = None,
    ) -> None:
        """Out = function(norm(x) + residual)."""
        if kept is None:
            self.apply(x, out, function, residual)
            return
        self.refuse_one_pixel(x.shape)
        # Backward computes with these: not with arrays that others may change in between.
        kept[0], kept[1] = self.weight.data, self.bias.data
        running, eps = self.moving(), self.eps
        prepared.batch_norm(x, kept, running, self.momentum, eps, function, residual, out)

    def moving(self) -> tuple[Array, Array]:
        """The statistics that a training forward moves; those of a slot, where there are slots."""
        running, slot = (self.running_mean, self.running_var), CURRENT.get()
        return running if slot is None else slot.statistics(running, self.momentum)

    def refuse_one_pixel(self, x: tuple[int, ...]) -> None:
        """It has no variance."""
        if math.prod(x) == self.channels:
            self.refuse(
                f"x has shape {x} in training, one number a channel, whose variance is 0; "
                "expected at least two: use a larger batch or larger images, or eval()."
            )

    def gradients(
        self, dy: Array, dx: Array | None, x: Array, y: None, saved: tuple[Array, ...]
    ) -> None:
        """Through the statistics of this x, or of all slots."""
        slot = CURRENT.get()
        if slot is None or not slot.synchronised:
            self.add_gradients(dy, dx, x, saved[0])
        else:
            self._add_gradients_together(dy, dx, x, saved[0], slot)

    def _add_gradients_together(
        self, dy: Array, dx: Array | None, x: Array, kept: Array, slot: Slot
    ) -> None:
        """Dx = a (dy - sum dy / M - n sum(dy n) / M), n = (x - mean) / s, a = weight / s.

        The sums are those of all slots: of the gradients of bias and weight.
        """
        dweight, dbias = np.empty_like(kept[0]), np.empty_like(kept[0])
        none = None, dweight, dbias
        prepared.batch_norm_backward(dy, x, kept, self.eps, NONE, None, None, none)
        self.weight.add_gradient(lambda out: np.copyto(out, dweight))
        self.bias.add_gradient(lambda out: np.copyto(out, dbias))
        n = np.full(self.channels, x.size // self.channels, np.float64)
        M, sum_dy, sum_dyn = slot.total(np.stack([n, dbias, dweight]).astype(np.float64))
        if dx is None:
            return
        weight, _, mean, var = kept.astype(np.float64)
        inverse = 1 / np.sqrt(var + self.eps)
        a = weight * inverse
        b = -a * inverse * sum_dyn / M
        c = -a * sum_dy / M - b * mean
        a, b, c = (v.astype(x.dtype) for v in (a, b, c))
        part = x * b
        np.multiply(dy, a, out=dx)
        dx += part
        dx += c

    def add_gradients(
        self,
        dy: Array,
        dx: Array | None,
        x: Array,
        kept: Array,
        *,
        function: Activation = NONE,
        y: Array | None = None,
        residual_gradient: Array | None = None,
    ) -> None:
        """Of `normalise`; y and residual_gradient where there was a residual."""

        def run(dweight: Array, dbias: Array) -> None:
            out = dx, dweight, dbias
            prepared.batch_norm_backward(dy, x, kept, self.eps, function, y, residual_gradient, out)

        self.weight.add_gradient(lambda dw: self.bias.add_gradient(lambda db: run(dw, db)))

    def _arguments(self) -> str:
        return f"{self.channels}, momentum={self.momentum}, eps={self.eps}"


class BatchNorm2d(BatchNorm):
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

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        """The identity, but for the statistics."""
        super().__init__(channels, momentum, eps, "channels")

    def infer_shape(self, x: Shape) -> Shape:
        """The shape of x."""
        self.expect_channels(x, self.channels, "channels")
        return x


class BatchNorm1d(BatchNorm):
    """`BatchNorm2d` of vectors [N, C], over N, or of sequences [N, L, C], over N and L.

    num_features: C; the other arguments and all arrays as there. (PyTorch's sequences are [N, C,
    L].) Raises ValueError for arguments out of range, and in training for a single row.
    """

    def __init__(self, num_features: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        """The identity, but for the statistics."""
        super().__init__(num_features, momentum, eps, "num_features")

    @property
    def num_features(self) -> int:
        """C."""
        return self.channels

    def infer_shape(self, x: Shape) -> Shape:
        """The shape of x."""
        if len(x) not in (2, 3):
            self.refuse(f"x has shape {x}; expected [N, C] or [N, L, C]: images take BatchNorm2d.")
        if x[-1] != self.channels:
            turned = len(x) == 3 and x[1] == self.channels
            self.refuse(
                f"x has shape {x}, C = {x[-1]} in {'[N, C]' if len(x) == 2 else '[N, L, C]'}; "
                f"expected num_features = {self.channels}"
                + (": for [N, C, L] write x.transpose(0, 2, 1)." if turned else ".")
            )
        return x
