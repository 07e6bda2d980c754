"""Operators that stand for several layers, on float32; `patterns.py` says when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pycnn import ops
from pycnn.graph.compile import Lowering
from pycnn.graph.values import Shape
from pycnn.layers.activation import Activation, ReLU
from pycnn.layers.arithmetic import Add
from pycnn.layers.base import Keeps, Layer
from pycnn.layers.conv import Conv2d, Convolution
from pycnn.layers.linear import Linear
from pycnn.layers.pool import MaxPool2d
from pycnn.ops import prepared
from pycnn.ops.activations import NONE, relu_if
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
        self.conv.lower_with(to, relu_if(self.relu is not None), self.pool_padding)

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


class ConvActivation(Fused):
    """A Conv2d and the activation behind it, without a pool, as one operator in each direction.

    In training only where the gradient of the activation follows from y.
    """

    reads = "xy"

    def __init__(self, conv: Conv2d, activation: Activation) -> None:
        """The convolution's parameters are used."""
        super().__init__(conv, activation)
        self.conv, self.function = conv, activation.fused

    def infer_shape(self, x: Shape) -> Shape:
        """That of the convolution."""
        return self.conv.infer_shape(x)

    def compute(self, x: Array, out: Array) -> None:
        """f(conv(x))."""
        conv, f = self.conv, self.function
        prepared.conv2d(x, conv.weight.data, conv.bias_data, conv.options, out, activation=f)

    def lower(self, to: Lowering) -> None:
        """One step."""
        self.conv.lower_with(to, self.function)

    def gradients(self, dy: Array, dx: Array | None, x: Array, y: Array, saved: None) -> None:
        """All of dy * f'."""
        conv, f = self.conv, self.function

        def run(dweight: Array, dbias: Array | None) -> None:
            out = dweight, dbias, dx
            prepared.conv2d_relu_backward(dy, y, x, conv.weight.data, conv.options, f, out)

        add_conv_gradients(conv, run)

    def notes(self, x: Shape | None) -> str:
        """The algorithms."""
        return ", ".join(filter(None, ("one operator", self.conv.notes(x))))


class ConvAdd(Fused):
    """The end of a residual without norm: f(conv(x) + r), or without an activation conv(x) + r.

    In training with an activation alone, whose gradient follows from y.
    """

    reads = "xy"
    in_place = (1,)
    gradient_in_place = 1

    def __init__(self, conv: Conv2d, add: Add, activation: Activation | None = None) -> None:
        """The convolution's parameters are used."""
        super().__init__(*(layer for layer in (conv, add, activation) if layer is not None))
        self.conv, self.function = conv, NONE if activation is None else activation.fused

    def infer_shape(self, x: tuple[Shape, Shape]) -> Shape:
        """That of the convolution."""
        return self.conv.infer_shape(x[0])

    def compute(self, x: tuple[Array, Array], out: Array) -> None:
        """f(conv(x) + r)."""
        conv = self.conv
        arrays = x[0], conv.weight.data, conv.bias_data
        prepared.conv2d(*arrays, conv.options, out, activation=self.function, residual=x[1])

    def lower(self, to: Lowering) -> None:
        """One step."""
        self.conv.lower_with(to, self.function, residual=to.x[1])

    def gradients(self, dy: Array, dx: Any, x: Any, y: Any, saved: None) -> None:
        """Dr is dy * f', the others are the convolution's gradients of that."""
        d, dr = dx
        if dr is None:
            dr = aligned_empty(dy.shape, dy.dtype)
        prepared.activation_backward(dy, y, self.function, dr)
        self.conv.gradients(dr, d, x[0], None, None)

    def notes(self, x: Any) -> str:
        """The algorithms."""
        return ", ".join(filter(None, ("one operator", self.conv.notes(x and x[0]))))


class AddActivation(Fused):
    """f(a + b) in one pass; in training where the gradient of f follows from y."""

    reads = "y"
    in_place = (0, 1)
    gradient_in_place = 0

    def __init__(self, add: Add, activation: Activation) -> None:
        """Neither has parameters."""
        super().__init__(add, activation)
        self._add, self.function = add, activation.fused

    def infer_shape(self, x: tuple[Shape, Shape]) -> Shape:
        """The shape of both."""
        return self._add.infer_shape(x)

    def compute(self, x: tuple[Array, Array], out: Array) -> None:
        """f(a + b)."""
        ops.add(*x, activation=self.function, out=out)

    def lower(self, to: Lowering) -> None:
        """One step."""
        self._add.lower_with(to, self.function)

    def gradients(self, dy: Array, dx: Any, x: None, y: Array, saved: None) -> None:
        """Dy * f', for both; the first may be dy itself, so it comes last."""
        for d in reversed(dx):
            if d is not None:
                prepared.activation_backward(dy, y, self.function, d)

    def notes(self, x: Any) -> str:
        """How it runs."""
        return "one pass"


class LinearActivation(Fused):
    """f(x @ weight + bias), of a compiled network; or of a Conv1d or a ConvTranspose2d."""

    def __init__(self, linear: Linear | Convolution, activation: Activation) -> None:
        """The layer's parameters are used."""
        super().__init__(linear, activation)
        self.linear, self.function = linear, activation.fused

    def infer_shape(self, x: Shape) -> Shape:
        """That of the linear layer."""
        return self.linear.infer_shape(x)

    def compute(self, x: Array, out: Array) -> None:
        """f(linear(x))."""
        self.linear.compute(x, out)
        prepared.activation(out, self.function, out)

    def lower(self, to: Lowering) -> None:
        """One step."""
        self.linear.lower_with(to, self.function)
