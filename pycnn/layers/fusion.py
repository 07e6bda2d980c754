"""Runs of layers that one operator computes: convolution to 2 x 2 max pool; BatchNorm and relu."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from pycnn import ops
from pycnn.inference import Builder
from pycnn.layers.activation import ReLU
from pycnn.layers.base import Layer
from pycnn.layers.conv import Conv2d
from pycnn.layers.memory import Place
from pycnn.layers.norm import BatchNorm2d
from pycnn.layers.parameter import Parameter
from pycnn.layers.pool import MaxPool2d
from pycnn.layers.run import Shape
from pycnn.ops.arrays import Array


class Block(Layer):
    """A Conv2d, a MaxPool2d of 2 x 2 windows, and perhaps the ReLU between or after them, as one.

    The map between convolution and pool is never written, and the gradient, zero in three quarters
    of the map and more, is computed from its non-zeros (`ops.conv2d_block`). Parameters stay those
    of the Conv2d. It computes float32 only; `Sequential` runs the layers themselves on float64.
    """

    def __init__(self, conv: Conv2d, pool: MaxPool2d, relu: ReLU | None) -> None:
        """Stand for these layers, which stay what they are."""
        super().__init__()
        self._conv, self._pool, self._relu = conv, pool, relu

    @property
    def weight(self) -> Parameter:  # type: ignore[override]
        """That of the Conv2d."""
        return self._conv.weight

    @property
    def training(self) -> bool:  # type: ignore[override]
        """Whether all of its layers are in training mode."""
        relu = self._relu
        return self._conv.training and self._pool.training and (relu is None or relu.training)

    @property
    def _owns_results(self) -> bool:  # type: ignore[override]
        return self._relu is None or not self.training  # else backward reads y

    @property
    def _owns_gradient(self) -> bool:
        return True

    def layers(self) -> list[Layer]:
        """The layers that it stands for."""
        layers = [self._conv, self._pool, self._relu]
        return [layer for layer in layers if layer is not None]

    @property
    def _options(self) -> dict[str, Any]:
        padding = self._pool.padding
        return {
            **self._conv._geometry,
            "relu": self._relu is not None,
            "pool_padding": padding if isinstance(padding, str) else "valid",
        }

    def _forward(self, x: Array, place: Place) -> tuple[Array, Any]:
        conv = self._conv
        bias = None if conv.bias is None else conv.bias.data
        y = self._output(x, place)
        if not self.training:
            ops.conv2d_block(x, conv.weight.data, bias, **self._options, out=y)
            return y, None
        where = self._buffers.get("where", y.shape, np.uint8)
        ops.conv2d_block(
            x, conv.weight.data, bias, **self._options, return_where=True, out=(y, where)
        )
        # The mask of relu is read from y again: not from an array that the user may change.
        return y, (x, y if place is Place.KEPT else y.copy(), where)

    def _backward(self, dy: Array, kept: Any, place: Place | None) -> Array | None:
        x, y, where = kept
        conv = self._conv
        dx = None if place is None else self._input_gradient(dy, place)

        def run(dweight: Array, dbias: Array) -> None:
            out = dweight, dbias, dx
            wanted = {**self._options, "input_gradient": dx is not None, "out": out}
            ops.conv2d_block_backward(dy, y, where, x, conv.weight.data, **wanted)

        _add_gradients(self, conv, run)
        return dx

    def _compile(self, net: Builder, x: Shape) -> None:
        conv = self._conv
        bias = None if conv.bias is None else conv.bias.data
        pool = self._options["pool_padding"].lower()
        net.conv2d(x, conv.weight.data, bias, conv._geometry, self._relu is not None, pool)

    def _output_shape(self, x: Shape) -> Shape:
        return self._pool._output_shape(self._conv._output_shape(x))

    def _children(self) -> Mapping[str, Layer]:
        return {layer._name or str(i): layer for i, layer in enumerate(self.layers())}

    def _label(self) -> str:
        return self._conv._label()


class ConvRelu(Layer):
    """A Conv2d and the ReLU behind it, without a pool, as one operator in each direction.

    Parameters stay those of the Conv2d. float32 only, as `Block`.
    """

    def __init__(self, conv: Conv2d, relu: ReLU) -> None:
        """Stand for these layers, which stay what they are."""
        super().__init__()
        self._conv, self._relu = conv, relu

    @property
    def weight(self) -> Parameter:  # type: ignore[override]
        """That of the Conv2d."""
        return self._conv.weight

    @property
    def training(self) -> bool:  # type: ignore[override]
        """Whether both of its layers are in training mode."""
        return self._conv.training and self._relu.training

    @property
    def _owns_results(self) -> bool:  # type: ignore[override]
        return not self.training  # else backward reads y

    @property
    def _owns_gradient(self) -> bool:
        return True

    def layers(self) -> list[Layer]:
        """The layers that it stands for."""
        return [self._conv, self._relu]

    def _forward(self, x: Array, place: Place) -> tuple[Array, Any]:
        conv = self._conv
        bias = None if conv.bias is None else conv.bias.data
        y = self._output(x, place)
        ops.conv2d(x, conv.weight.data, bias, **conv._geometry, activation="relu", out=y)
        if not self.training:
            return y, None
        return y, (x, y if place is Place.KEPT else y.copy())

    def _backward(self, dy: Array, kept: Any, place: Place | None) -> Array | None:
        x, y = kept
        conv = self._conv
        dx = None if place is None else self._input_gradient(dy, place)

        def run(dweight: Array, dbias: Array) -> None:
            wanted = {**conv._geometry, "input_gradient": dx is not None}
            out = dweight, dbias, dx
            ops.conv2d_relu_backward(dy, y, x, conv.weight.data, **wanted, out=out)

        _add_gradients(self, conv, run)
        return dx

    def _compile(self, net: Builder, x: Shape) -> None:
        conv = self._conv
        bias = None if conv.bias is None else conv.bias.data
        net.conv2d(x, conv.weight.data, bias, conv._geometry, relu=True)

    def _output_shape(self, x: Shape) -> Shape:
        return self._conv._output_shape(x)

    def _children(self) -> Mapping[str, Layer]:
        return {layer._name or str(i): layer for i, layer in enumerate(self.layers())}

    def _label(self) -> str:
        return self._conv._label()


def _add_gradients(owner: Layer, conv: Conv2d, run: Callable[[Array, Array], None]) -> None:
    """Call run(dweight, dbias), and add both to the parameters' gradients."""
    if conv.bias is None:
        nobody_asked = owner._buffers.get("dbias", (conv.out_channels,), np.float32)
        conv.weight.add_gradient(lambda dweight: run(dweight, nobody_asked))
    else:
        add_bias = conv.bias.add_gradient
        conv.weight.add_gradient(lambda dweight: add_bias(lambda dbias: run(dweight, dbias)))


class NormRelu(Layer):
    """A BatchNorm2d and the ReLU behind it, as one pass over the map in each direction.

    y = relu((x - mean) / sqrt(var + eps) * weight + bias); parameters stay those of the
    BatchNorm2d. float32 only, as `Block`.
    """

    def __init__(self, norm: BatchNorm2d, relu: ReLU) -> None:
        """Stand for these layers, which stay what they are."""
        super().__init__()
        self._norm, self._relu = norm, relu

    @property
    def weight(self) -> Parameter:  # type: ignore[override]
        """That of the BatchNorm2d."""
        return self._norm.weight

    @property
    def training(self) -> bool:  # type: ignore[override]
        """Whether both of its layers are in training mode."""
        return self._norm.training and self._relu.training

    @property
    def _owns_results(self) -> bool:  # type: ignore[override]
        return True  # the mask of relu is computed again from x

    @property
    def _works_in_place(self) -> bool:  # type: ignore[override]
        return self._norm._works_in_place

    @property
    def _gradient_in_place(self) -> bool:
        return True

    def layers(self) -> list[Layer]:
        """The layers that it stands for."""
        return [self._norm, self._relu]

    def _forward(self, x: Array, place: Place) -> tuple[Array, Any]:
        return self._norm._normalise(x, self._output(x, place), "relu")

    def _backward(self, dy: Array, kept: Any, place: Place | None) -> Array | None:
        dx = None if place is None else self._input_gradient(dy, place)
        return self._norm._gradients(dy, kept, dx)

    def _compile(self, net: Builder, x: Shape) -> None:
        self._norm._compile_with(net, relu=True)

    def _output_shape(self, x: Shape) -> Shape:
        return self._norm._output_shape(x)

    def _children(self) -> Mapping[str, Layer]:
        return {layer._name or str(i): layer for i, layer in enumerate(self.layers())}

    def _label(self) -> str:
        return self._norm._label()


def _fits(pool: Layer) -> bool:
    """Whether it is a 2 x 2 pool of stride 2 that begins at the first pixel."""
    if type(pool) is not MaxPool2d or pool.kernel_size != (2, 2) or pool.stride != (2, 2):
        return False
    padding = pool.padding
    return padding in (0, (0, 0)) or (
        isinstance(padding, str) and padding.lower() in ("same", "valid")
    )


def fused(layers: tuple[Layer, ...]) -> Iterator[Layer]:
    """The layers in order, runs that one operator computes replaced by the classes above."""
    i = 0
    while i < len(layers):
        conv, rest = layers[i], layers[i + 1 : i + 3]
        kinds = tuple(type(layer) for layer in rest)
        if type(conv) is BatchNorm2d and kinds[:1] == (ReLU,):
            yield NormRelu(conv, rest[0])  # type: ignore[arg-type]
            i += 2
        elif type(conv) is not Conv2d or conv.algorithm != "auto":
            yield conv
            i += 1
        elif kinds == (ReLU, MaxPool2d) and _fits(rest[1]):
            yield Block(conv, rest[1], rest[0])  # type: ignore[arg-type]
            i += 3
        elif kinds == (MaxPool2d, ReLU) and _fits(rest[0]):
            yield Block(conv, rest[0], rest[1])  # type: ignore[arg-type]
            i += 3
        elif kinds[:1] == (MaxPool2d,) and _fits(rest[0]):
            yield Block(conv, rest[0], None)  # type: ignore[arg-type]
            i += 2
        elif kinds[:1] == (ReLU,) and kinds[1:] != (MaxPool2d,):  # that one goes before the relu
            yield ConvRelu(conv, rest[0])  # type: ignore[arg-type]
            i += 2
        else:
            yield conv
            i += 1


def describe(order: tuple[Layer, ...], input_shape: Shape | None) -> str:
    """The text of `Sequential.plan`."""
    lines = []
    for step in order:
        parts = step.layers() if isinstance(step, (Block, ConvRelu, NormRelu)) else [step]
        names = " ".join(part._name for part in parts)
        kinds = " + ".join(type(part).__name__ for part in parts)
        lines.append((names, kinds, _how(step, parts[0], input_shape)))
        input_shape = None if input_shape is None else step._output_shape(input_shape)
    widths = [max(len(line[i]) for line in lines) for i in range(2)]
    return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in lines)


def _how(step: Layer, first: Layer, input_shape: Shape | None) -> str:
    """What `plan` says of one step behind its layers."""
    block = step if isinstance(step, Block) else None
    notes = ["one block"] if block else ["a view"] if step._is_view() else []
    if isinstance(step, (ConvRelu, NormRelu)):
        notes.append("one pass" if isinstance(step, NormRelu) else "one operator")
    if isinstance(first, Conv2d) and input_shape is not None:
        weight_shape = first.weight.data.shape
        chosen = ops.explain_conv2d(input_shape, weight_shape, **first._geometry)
        notes.append(f"forward {chosen.forward}")
        if block and block._relu is None and chosen.backward_input == "winograd":
            notes.append("dx winograd, dweight without products with zero")
        elif block:
            notes.append("gradients without products with zero")
        else:
            notes.append(f"gradients {chosen.backward_input}, {chosen.backward_weight}")
    return ", ".join(notes)
