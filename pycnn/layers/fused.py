"""Operators that stand for several layers, on float32; `patterns.py` says when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pycnn import ops
from pycnn.graph.compile import Lowering
from pycnn.graph.values import Shape
from pycnn.layers.activation import ReLU
from pycnn.layers.arithmetic import Add
from pycnn.layers.base import Keeps, Layer
from pycnn.layers.conv import Conv2d
from pycnn.layers.linear import Linear
from pycnn.layers.norm import BatchNorm, BatchNorm2d, Channelwise
from pycnn.layers.pool import MaxPool2d
from pycnn.ops import prepared
from pycnn.ops.activations import RELU, relu_if
from pycnn.ops.arrays import Array, aligned_empty


class Fused(Layer):
    """Stands for layers, in the order of `layers()`."""

    def __init__(self, *layers: Layer) -> None:
        """They stay what they are."""
        super().__init__()
        self._layers = layers
        self.training = all(layer.training for layer in layers)

    def layers(self) -> tuple[Layer, ...]:
        """The layers that it stands for."""
        return self._layers


def add_conv_gradients(conv: Conv2d, run: Callable[[Array, Array | None], object]) -> None:
    """Call run(dweight, dbias or None), and add them to the parameters' gradients."""
    if conv.bias is None:
        conv.weight.add_gradient(lambda dweight: run(dweight, None))
    else:
        add_bias = conv.bias.add_gradient
        conv.weight.add_gradient(lambda dweight: add_bias(lambda dbias: run(dweight, dbias)))


class ConvPool(Fused):
    """A Conv2d, a MaxPool2d of 2 x 2 windows, and perhaps the ReLU between or after them.

    The map between convolution and pool is never written, and the gradient, zero in three quarters
    of the map and more, is computed from its non-zeros (`ops.conv_pool`).
    """

    reads = "xy"

    def __init__(self, conv: Conv2d, pool: MaxPool2d, relu: ReLU | None) -> None:
        """relu: None if there is none."""
        super().__init__(*(layer for layer in (conv, pool, relu) if layer is not None))
        self.conv, self.pool, self.relu = conv, pool, relu

    @property
    def pool_padding(self) -> str:
        """The pool's, 'same' or 'valid'; sizes that are rounded up are those of 'same'."""
        padding = "same" if self.pool.ceil_mode else self.pool.padding
        return padding.lower() if isinstance(padding, str) else "valid"

    def shape(self, x: Shape) -> Any:
        """For C++."""
        conv, relu = self.conv, self.relu is not None
        return prepared.pooled(x, conv.weight.data.shape, conv.options, self.pool_padding, relu)

    def infer_shape(self, x: Shape) -> Shape:
        """That of the pool."""
        return self.pool.infer_shape(self.conv.infer_shape(x))

    def keeps(self, x: Shape) -> Keeps:
        """Which pixel of its window each maximum is."""
        return [((None, *self.infer_shape(x)[1:]), np.uint8)] if self.training else []

    def compute(self, x: Array, out: Array, *where: Array) -> None:
        """In one pass."""
        conv = self.conv
        arrays = x, conv.weight.data, conv.bias_data
        prepared.conv_pool(*arrays, self.shape(x.shape), out, where[0] if where else None)

    def lower(self, to: Lowering) -> None:
        """One step."""
        self.conv.lower_with(to, self.relu is not None, self.pool_padding)

    def gradients(self, dy: Array, dx: Array | None, x: Array, y: Array, saved: Any) -> None:
        """All from the list of non-zeros of dy."""
        conv, shape = self.conv, self.shape(x.shape)

        def run(dweight: Array, dbias: Array | None) -> None:
            out = dweight, dbias, dx
            prepared.conv_pool_backward(dy, y, saved[0], x, conv.weight.data, shape, out)

        add_conv_gradients(conv, run)

    def notes(self, x: Shape | None) -> str:
        """The algorithms."""
        if x is None:
            return "conv_pool"
        chosen = ops.explain_conv2d(x, self.conv.weight.data.shape, **self.conv.geometry)
        sparse = self.relu is None and chosen.backward_input == "winograd"
        how = (
            "dx winograd, dweight without products with zero"
            if sparse
            else "gradients without products with zero"
        )
        return f"conv_pool, forward {chosen.forward}, {how}"


class ConvRelu(Fused):
    """A Conv2d and the ReLU behind it, without a pool, as one operator in each direction."""

    reads = "xy"

    def __init__(self, conv: Conv2d, relu: ReLU) -> None:
        """The convolution's parameters are used."""
        super().__init__(conv, relu)
        self.conv = conv

    def infer_shape(self, x: Shape) -> Shape:
        """That of the convolution."""
        return self.conv.infer_shape(x)

    def compute(self, x: Array, out: Array) -> None:
        """relu(conv(x))."""
        conv = self.conv
        prepared.conv2d(x, conv.weight.data, conv.bias_data, conv.options, out, activation=RELU)

    def lower(self, to: Lowering) -> None:
        """One step."""
        self.conv.lower_with(to, relu=True)

    def gradients(self, dy: Array, dx: Array | None, x: Array, y: Array, saved: None) -> None:
        """All of dy where y > 0."""
        conv = self.conv

        def run(dweight: Array, dbias: Array | None) -> None:
            out = dweight, dbias, dx
            prepared.conv2d_relu_backward(dy, y, x, conv.weight.data, conv.options, out)

        add_conv_gradients(conv, run)

    def notes(self, x: Shape | None) -> str:
        """The algorithms."""
        return ", ".join(filter(None, ("one operator", self.conv.notes(x))))


class NormRelu(Fused):
    """A batch normalisation and the ReLU behind it, as one pass over the map in each direction.

    y = relu((x - mean) / sqrt(var + eps) * weight + bias); the mask of relu is computed again.
    """

    gradient_in_place = 0

    def __init__(self, norm: BatchNorm, relu: ReLU) -> None:
        """The parameters and statistics of the norm are used."""
        super().__init__(norm, relu)
        self.norm = norm

    @property
    def in_place(self) -> tuple[int, ...]:  # type: ignore[override]
        """As the norm."""
        return tuple(self.norm.in_place)

    def infer_shape(self, x: Shape) -> Shape:
        """The shape of x."""
        places: tuple[int, ...] = self.norm.in_place
        return places

    def keeps(self, x: Shape) -> Keeps:
        """What the norm keeps."""
        return self.norm.keeps(x)

    def compute(self, x: Array, out: Array, *kept: Array) -> None:
        """relu(norm(x))."""
        self.norm.normalise(x, out, *kept, relu=True)

    def lower(self, to: Lowering) -> None:
        """One step."""
        self.norm.lower_with(to, relu=True)

    def gradients(self, dy: Array, dx: Array | None, x: Array, y: None, saved: Any) -> None:
        """Through the statistics, of dy where y > 0."""
        self.norm.add_gradients(dy, dx, x, saved[0], relu=True)

    def notes(self, x: Shape | None) -> str:
        """How it runs."""
        return "one pass"


class NormAddRelu(Fused):
    """The end of a residual: relu(norm(x) + r), in one pass forward and two backward."""

    reads = "xy"
    gradient_in_place = 1  # dr, dy where y > 0, which dx is computed from

    def __init__(self, norm: BatchNorm2d, add: Add, relu: ReLU) -> None:
        """The parameters and statistics of the norm are used."""
        super().__init__(norm, add, relu)
        self.norm = norm

    @property
    def in_place(self) -> tuple[int, ...]:  # type: ignore[override]
        """The residual's memory, and in eval mode that of x."""
        return (0, 1) if not self.training else (1,)

    def infer_shape(self, x: tuple[Shape, Shape]) -> Shape:
        """The shape of x."""
        return self.norm.infer_shape(x[0])

    def keeps(self, x: tuple[Shape, Shape]) -> Keeps:
        """What the norm keeps."""
        return self.norm.keeps(x[0])

    def compute(self, x: tuple[Array, Array], out: Array, *kept: Array) -> None:
        """relu(norm(x) + r)."""
        self.norm.normalise(x[0], out, *kept, relu=True, residual=x[1])

    def lower(self, to: Lowering) -> None:
        """One step."""
        self.norm.lower_with(to, relu=True, residual=to.x[1])

    def gradients(self, dy: Array, dx: Any, x: Any, y: Array, saved: Any) -> None:
        """Of x and of the residual."""
        d, dr = dx
        if dr is None:
            dr = aligned_empty(dy.shape, dy.dtype)
        self.norm.add_gradients(dy, d, x[0], saved[0], relu=True, y=y, residual_gradient=dr)

    def notes(self, x: Any) -> str:
        """How it runs."""
        return "one pass"


class ConvAddRelu(Fused):
    """The end of a residual without norm: relu(conv(x) + r)."""

    reads = "xy"
    gradient_in_place = 1

    def __init__(self, conv: Conv2d, add: Add, relu: ReLU) -> None:
        """The convolution's parameters are used."""
        super().__init__(conv, add, relu)
        self.conv = conv

    def infer_shape(self, x: tuple[Shape, Shape]) -> Shape:
        """That of the convolution."""
        return self.conv.infer_shape(x[0])

    def compute(self, x: tuple[Array, Array], out: Array) -> None:
        """relu(conv(x) + r)."""
        conv = self.conv
        arrays = x[0], conv.weight.data, conv.bias_data
        prepared.conv2d(*arrays, conv.options, out, activation=RELU, residual=x[1])

    def lower(self, to: Lowering) -> None:
        """One step."""
        self.conv.lower_with(to, relu=True, residual=to.x[1])

    def gradients(self, dy: Array, dx: Any, x: Any, y: Array, saved: None) -> None:
        """Dr is dy where y > 0, the others are the convolution's gradients of that."""
        d, dr = dx
        if dr is None:
            dr = aligned_empty(dy.shape, dy.dtype)
        prepared.relu_backward(dy, y, dr)
        self.conv.gradients(dr, d, x[0], None, None)

    def notes(self, x: Any) -> str:
        """The algorithms."""
        return ", ".join(filter(None, ("one operator", self.conv.notes(x and x[0]))))


class AddRelu(Fused):
    """relu(a + b) in one pass."""

    reads = "y"
    in_place = (0, 1)
    gradient_in_place = 0

    def __init__(self, add: Add, relu: ReLU) -> None:
        """Neither has parameters."""
        super().__init__(add, relu)
        self._add = add

    def infer_shape(self, x: tuple[Shape, Shape]) -> Shape:
        """The shape of both."""
        return self._add.infer_shape(x)

    def compute(self, x: tuple[Array, Array], out: Array) -> None:
        """relu(a + b)."""
        ops.add(*x, activation="relu", out=out)

    def lower(self, to: Lowering) -> None:
        """One step."""
        self._add.lower_with(to, RELU)

    def gradients(self, dy: Array, dx: Any, x: None, y: Array, saved: None) -> None:
        """Dy where y > 0, for both; the first may be dy itself, so it comes last."""
        for d in reversed(dx):
            if d is not None:
                prepared.relu_backward(dy, y, d)

    def notes(self, x: Any) -> str:
        """How it runs."""
        return "one pass"


class LinearRelu(Fused):
    """relu(x @ weight + bias), of a compiled network."""

    def __init__(self, linear: Linear, relu: ReLU) -> None:
        """The linear layer's parameters are used."""
        super().__init__(linear, relu)
        self.linear = linear

    def infer_shape(self, x: Shape) -> Shape:
        """That of the linear layer."""
        return self.linear.infer_shape(x)

    def compute(self, x: Array, out: Array) -> None:
        """relu(linear(x))."""
        self.linear.compute(x, out)
        ops.relu(out, out=out)

    def lower(self, to: Lowering) -> None:
        """One step."""
        self.linear.lower_with(to, RELU)


class ConvNorm(Fused):
    """A Conv2d, a BatchNorm2d in eval mode, and perhaps an Add and a ReLU behind them.

    The norm's scale and shift go into the convolution's weights anew in each call, since training
    may change both in between; where the map is small beside the weights the two run one by one.
    """

    reads = ""

    def __init__(self, conv: Conv2d, norm: BatchNorm2d, *more: Layer) -> None:
        """more: an Add, a ReLU, both or none."""
        super().__init__(conv, norm, *more)
        self.conv, self.norm = conv, norm
        self.relu = any(isinstance(layer, ReLU) for layer in more)
        self.adds = any(isinstance(layer, Add) for layer in more)

    def infer_shape(self, x: Any) -> Shape:
        """That of the convolution."""
        return self.norm.infer_shape(self.conv.infer_shape(x[0] if self.adds else x))

    def compute(self, x: Any, out: Array) -> None:
        """relu(norm(conv(x)) + r)."""
        x, residual = x if self.adds else (x, None)
        conv = self.conv
        if out.size < FOLD_FROM * conv.weight.data.size:
            prepared.conv2d(x, conv.weight.data, conv.bias_data, conv.options, out)
            self.norm.normalise(out, out, relu=self.relu, residual=residual)
            return
        weight, bias = folded(conv, self.norm)
        function = relu_if(self.relu)
        prepared.conv2d(x, weight, bias, conv.options, out, activation=function, residual=residual)

    def notes(self, x: Any) -> str:
        """The algorithms."""
        x = x[0] if self.adds and x else x
        return ", ".join(filter(None, ("one operator", self.conv.notes(x))))


# Numbers of the map for each of the weights, from which folding pays. Zen 3, two threads, time one
# by one / folded at 0.3, 0.7, 1.4, 7, 7, 68 and 711: 0.65, 0.80, 1.00, 0.95, 1.17, 1.08, 1.04.
FOLD_FROM = 8


def folded(conv: Conv2d, norm: Channelwise) -> tuple[Array, Array]:
    """(weight, bias) of the one convolution that norm(conv(x)) is in eval mode.

    w' = w * s, b' = shift + b * s, with the norm's s = weight / sqrt(var + eps) and
    shift = bias - mean * s.
    """
    scale, shift = norm.folded()
    if conv.bias is not None:
        shift = shift + conv.bias.data * scale
    return conv.weight.data * scale.astype(np.float32), shift.astype(np.float32)
