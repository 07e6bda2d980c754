"""Activations: layers that treat each number by itself; softmax beside them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn import ops
from pycnn.graph.compile import Lowering
from pycnn.graph.values import Shape
from pycnn.layers.arguments import positive
from pycnn.layers.base import Layer
from pycnn.layers.parameter import Parameter
from pycnn.ops import activations, prepared
from pycnn.ops.arrays import Array, number


class Activation(Layer):
    """y = f(x), any shape, f a row of `ops.activations`; NaN stays NaN. dx = dy * f'(x).

    A kind says its name there in `kind`, and in `numbers` which of its attributes, the arguments of
    its constructor, are the numbers of the row. Fused operators take any of them.
    """

    family = True  # patterns of fused operators mean all of its kinds
    kind = ""
    numbers: tuple[str, ...] = ()
    in_place = (0,)
    gradient_in_place = 0

    def __init__(self, *numbers: float) -> None:
        """numbers: in the order of `numbers`."""
        super().__init__()
        values = activations.checked(self.kind, numbers, type(self).__name__, self.numbers)
        for name, value in zip(self.numbers, values, strict=True):
            setattr(self, name, value)

    @property
    def fused(self) -> ops.activations.Activation:
        """What operators of C++ take."""
        return activations.activation(self.kind, *(getattr(self, name) for name in self.numbers))

    @property
    def reads(self) -> str:  # type: ignore[override]
        """What the gradient follows from."""
        return self.fused.reads

    def infer_shape(self, x: Shape) -> Shape:
        """The shape of x."""
        return x

    def compute(self, x: Array, out: Array) -> None:
        """Out = f(x)."""
        prepared.activation(x, self.fused, out)

    def lower(self, to: Lowering) -> None:
        """One step."""
        to.net.add_activation(to.x[0], to.y[0], self.fused)

    def gradients(self, dy: Array, dx: Array | None, x: Any, y: Any, saved: None) -> None:
        """Dy * f', from x or y."""
        if dx is not None:
            function = self.fused
            prepared.activation_backward(dy, x if function.reads == "x" else y, function, dx)

    def _arguments(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)}" for name in self.numbers)


class ReLU(Activation):
    """y = max(x, 0), any shape; NaN stays NaN. dx = dy where x > 0, else 0."""

    kind = "relu"


class ReLU6(Activation):
    """y = min(max(x, 0), 6), any shape. dx = dy where 0 < x < 6, else 0."""

    kind = "relu6"


class Clip(Activation):
    """y = min(max(x, low), high), any shape. dx = dy where low < x < high, else 0."""

    kind, numbers = "clip", ("low", "high")

    def __init__(self, low: float = -math.inf, high: float = math.inf) -> None:
        """low, high: any numbers, also infinite ones; high wins where low is above it."""
        super().__init__(low, high)


class LeakyReLU(Activation):
    """y = x, below zero x * negative_slope, any shape."""

    kind, numbers = "leaky_relu", ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01) -> None:
        """negative_slope: a finite number."""
        super().__init__(negative_slope)


class ELU(Activation):
    """y = x, below zero alpha * (exp(x) - 1), any shape."""

    kind, numbers = "elu", ("alpha",)

    def __init__(self, alpha: float = 1.0) -> None:
        """alpha: above 0."""
        super().__init__(alpha)


class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x)), any shape. dx = dy * y * (1 - y)."""

    kind = "sigmoid"


class Hardsigmoid(Activation):
    """y = min(max(slope * x + shift, 0), 1), any shape."""

    kind, numbers = "hard_sigmoid", ("slope", "shift")

    def __init__(self, slope: float = 1 / 6, shift: float = 0.5) -> None:
        """slope: above 0. The default is PyTorch's; ONNX's slope is 0.2."""
        super().__init__(slope, shift)


class Hardswish(Activation):
    """y = x * min(max(x + 3, 0), 6) / 6, any shape."""

    kind = "hard_swish"


class SiLU(Activation):
    """y = x / (1 + exp(-x)), any shape."""

    kind = "silu"


class GELU(Activation):
    """y = x * P(X < x) of a normal X: x / 2 * (1 + erf(x / sqrt(2))), any shape.

    approximate="tanh": x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), which is close to it.
    """

    def __init__(self, approximate: str = "none") -> None:
        """approximate: "none" or "tanh"."""
        super().__init__()
        self.approximate = approximate
        if approximate not in ("none", "tanh"):
            self.refuse(f'approximate is {approximate!r}; expected "none" or "tanh".')

    @property
    def kind(self) -> str:  # type: ignore[override]
        """Which of the two."""
        return "gelu" if getattr(self, "approximate", "none") == "none" else "gelu_tanh"

    def _arguments(self) -> str:
        return "" if self.approximate == "none" else f"approximate={self.approximate!r}"


class Tanh(Activation):
    """y = tanh(x), any shape. dx = dy * (1 - y^2)."""

    kind = "tanh"


class Softplus(Activation):
    """y = log(1 + exp(beta * x)) / beta, and x where beta * x > threshold; any shape."""

    kind, numbers = "softplus", ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        """beta: above 0."""
        super().__init__(beta, threshold)


class Exp(Activation):
    """y = exp(x), any shape. dx = dy * y."""

    kind = "exp"


class Erf(Activation):
    """y = erf(x), any shape. dx = dy * 2 / sqrt(pi) * exp(-x^2)."""

    kind = "erf"


class Sqrt(Activation):
    """y = sqrt(x), any shape, NaN below zero. dx = dy / (2 y)."""

    kind = "sqrt"


class Abs(Activation):
    """y = |x|, any shape. dx = dy * sign(x)."""

    kind = "abs"


class Log(Activation):
    """y = log(x), any shape; -Inf of zero, NaN below. dx = dy / x."""

    kind = "log"


class PReLU(Layer):
    """y = x, below zero x * weight of its channel: [..., C], same shape.

    weight: [num_parameters], 0.25 at first, one for each channel, or a single one for all; weight
    decay skips it. dweight: the sum of dy * x where x < 0.
    """

    weight: Parameter
    in_place = (0,)
    gradient_in_place = 0

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        """num_parameters: 1 or C; init: the first value of the weight."""
        super().__init__()
        self.num_parameters = positive("PReLU", "num_parameters", num_parameters)
        self.init = number(init)
        first = np.full(self.num_parameters, self.init, np.float32)
        self.weight = Parameter(first, "weight", decays=False)

    def infer_shape(self, x: Shape) -> Shape:
        """The shape of x."""
        if len(x) < 2 or self.num_parameters not in (1, x[-1]):
            self.refuse(
                f"x has shape {x}; expected [N, ..., C] with C = num_parameters = "
                f"{self.num_parameters}; one parameter is for any C."
            )
        return x

    def compute(self, x: Array, out: Array) -> None:
        """The formula above."""
        ops.prelu(x, self.weight.data, out=out)

    def lower(self, to: Lowering) -> None:
        """One step."""
        C = to.shapes[0][-1]
        to.net.add_prelu(to.x[0], to.y[0], np.broadcast_to(self.weight.data, C).copy())

    def gradients(self, dy: Array, dx: Array | None, x: Array, y: None, saved: None) -> None:
        """Of the weight and of x."""
        wanted = dx is not None
        self.weight.add_gradient(
            lambda dweight: ops.prelu_backward(
                dy, x, self.weight.data, input_gradient=wanted, out=(dx, dweight)
            )
        )

    def _arguments(self) -> str:
        return f"{self.num_parameters}"


class Softmax(Layer):
    """y = exp(x) / sum of exp(x) over the last axis, [..., K], same shape. Stable for any x.

    A loss like `losses.SoftmaxCrossEntropy` takes logits: leave this layer away before it.
    """

    reads = "y"

    def infer_shape(self, x: Shape) -> Shape:
        """The shape of x."""
        return x

    def compute(self, x: Array, out: Array) -> None:
        """The formula above."""
        ops.softmax(x, out=out)

    def lower(self, to: Lowering) -> None:
        """One step."""
        to.net.add_softmax(to.x[0], to.y[0], to.shapes[0][-1])

    def gradients(self, dy: Array, dx: Array | None, x: None, y: Array, saved: None) -> None:
        """Y * (dy - sum of dy * y)."""
        if dx is not None:
            ops.softmax_backward(dy, y, out=dx)
