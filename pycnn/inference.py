"""Models whose weights no longer change: `model.compile_inference(input_shape)`.

A `CompiledModel` is a copy of a model's function: weights are copied, those of 3 x 3 convolutions
kept transformed, batch normalisation is folded into the convolution before it, and one call from
Python runs all layers.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import _pycnn
import numpy as np
import numpy.typing as npt

from pycnn.ops import pool2d
from pycnn.ops.arrays import kind_of, to_write
from pycnn.ops.conv2d import conv2d_shape

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


@dataclasses.dataclass
class _Conv:
    """A convolution that waits for what can still be folded into it."""

    x: Shape
    weight: Array
    bias: Array | None
    geometry: dict[str, Any]
    relu: bool
    pool: str  # "none", "same" or "valid": a 2 x 2 max pool in the same step
    after: _pycnn.Pool2dShape | None = None  # another max pool right behind it


class Builder:
    """What a layer's `_compile` adds its step to. Shapes are of one image, N = 1."""

    def __init__(self, input_shape: Shape) -> None:
        """Start with no steps."""
        self._floats = [int(np.prod(input_shape[1:]))]
        self._steps: list[tuple[str, tuple[Any, ...]]] = []
        self._waiting: _Conv | None = None

    def conv2d(
        self,
        x: Shape,
        weight: Array,
        bias: Array | None,
        geometry: dict[str, Any],
        relu: bool = False,
        pool: str = "none",
    ) -> None:
        """A convolution, and what is fused to it; pool: "none", "same" or "valid"."""
        self.finish()
        self._waiting = _Conv(x, weight, bias, geometry, relu, pool)

    def batch_norm(
        self, weight: Array, bias: Array, mean: Array, var: Array, *, eps: float, relu: bool
    ) -> None:
        """(x - mean) * s + bias, s = weight / sqrt(var + eps), all [C]; then relu on request.

        Behind a convolution without relu it becomes part of its weights:

            w' = w * s        b' = bias + (b - mean) * s

        also through a max pool between them where no s is negative: then max(x) * s = max(x * s).
        Where one is, a maximum becomes a minimum, and it is a step of its own, as it is elsewhere.
        """
        conv = self._waiting
        pooled = conv is not None and (conv.pool != "none" or conv.after is not None)
        if conv is None or conv.relu or (pooled and not np.all(weight >= 0)):
            self.finish()
            self._add(self._floats[-1], "add_batch_norm", weight, bias, mean, var, eps, relu)
            return
        scale = weight / np.sqrt(var.astype(np.float64) + eps)
        shift = (0.0 if conv.bias is None else conv.bias.astype(np.float64)) - mean
        conv.weight = (conv.weight * scale).astype(np.float32)
        conv.bias = (bias + shift * scale).astype(np.float32)
        if relu:
            self.relu()

    def max_pool2d(self, x: Shape, kernel_size: Any, stride: Any, padding: Any) -> None:
        """Maximum of each window."""
        shape = pool2d.pool2d_shape("compile_inference", x, kernel_size, stride, padding)
        if self._waiting is not None and self._waiting.after is None:
            self._waiting.after = shape
            return
        self.finish()
        self._add(math.prod(shape.output_shape[1:]), "add_max_pool2d", shape)

    def avg_pool2d(
        self, x: Shape, kernel_size: Any, stride: Any, padding: Any, count_include_pad: bool
    ) -> None:
        """Mean of each window."""
        self.finish()
        shape = pool2d.pool2d_shape("compile_inference", x, kernel_size, stride, padding)
        size = math.prod(shape.output_shape[1:])
        self._add(size, "add_avg_pool2d", shape, count_include_pad)

    def relu(self) -> None:
        """max(x, 0) of everything."""
        if self._waiting is not None and self._waiting.after is None:
            self._waiting.relu = True
            return
        self.finish()
        self._add(self._floats[-1], "add_relu")

    def linear(self, weight: Array, bias: Array | None) -> None:
        """Product with weight [in, out], plus bias."""
        self.finish()
        self._add(weight.shape[1], "add_linear", weight, bias)

    def _add(self, floats: int, name: str, *arguments: Any) -> None:
        """A step from the last value to a new one of so many floats."""
        self._steps.append((name, arguments))
        self._floats.append(floats)

    def finish(self) -> None:
        """Add the convolution that waits."""
        conv, self._waiting = self._waiting, None
        if conv is None:
            return
        shape = conv2d_shape("compile_inference", conv.x, conv.weight.shape, **conv.geometry)
        _, h, w, c = shape.output_shape
        if conv.pool != "none":
            h, w = ((size + (conv.pool == "same")) // 2 for size in (h, w))
        step = (shape, conv.weight, conv.bias, conv.relu, conv.pool)
        self._add(h * w * c, "add_conv2d", *step)
        if conv.after is not None:
            self._add(math.prod(conv.after.output_shape[1:]), "add_max_pool2d", conv.after)

    def network(self) -> _pycnn.Network:
        """The steps one after the other; the maps between them take two places in turn."""
        self.finish()
        if not self._steps:
            self._add(self._floats[-1], "add_copy")
        last = len(self._floats) - 1
        place = -(-max(self._floats) // 16) * 16
        offsets = [-1 if i in (0, last) else i % 2 * place for i in range(last + 1)]
        net = _pycnn.Network(self._floats, offsets, [0], [last], 2**31 - 1)
        for i, (name, arguments) in enumerate(self._steps):
            getattr(net, name)(i, i + 1, *arguments)
        return net


class CompiledModel:
    """The function of a model in eval mode, with the weights of the moment it was made.

    `compiled(x)` gives what `model.eval()(x)` gave then: x float32 of the compiled input shape, any
    N; returns a new array. Later changes of the model do not reach it: compile again. Several
    threads may call one CompiledModel at once.
    """

    def __init__(self, builder: Builder, input_shape: Shape, output_shape: Shape) -> None:
        """Take over the steps of `builder`; use `Layer.compile_inference` to get one."""
        self._net = builder.network()
        self._input = tuple(input_shape[1:])
        self._output = tuple(output_shape[1:])

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """(None, ...): None stands for any batch size."""
        return (None, *self._input)

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """(None, ...): None stands for any batch size."""
        return (None, *self._output)

    def __call__(self, x: Array) -> Array:
        """Compute y. Raises TypeError or ValueError for another type or shape of x."""
        if not isinstance(x, np.ndarray) or x.dtype != np.float32:
            found = x.dtype if isinstance(x, np.ndarray) else kind_of(x)
            raise TypeError(
                f"CompiledModel: x is {found}; expected a float32 array{to_write(x, 'x')}"
            )
        if x.ndim == 0 or x.shape[1:] != self._input:
            axes = ", ".join(str(size) for size in ("N", *self._input))
            nchw = x.ndim == 4 and (*x.shape[2:], x.shape[1]) == self._input
            raise ValueError(
                f"CompiledModel: x has shape {x.shape}; expected [{axes}]"
                + (": for [N, C, H, W] write x.transpose(0, 2, 3, 1)." if nchw else ".")
            )
        if not (x.flags.c_contiguous and x.flags.aligned):
            x = np.require(x, requirements=["C", "A"])
        return self._net.run([x], [(len(x), *self._output)])[0]

    def __repr__(self) -> str:
        """The shapes."""
        return f"CompiledModel({self.input_shape} -> {self.output_shape})"
