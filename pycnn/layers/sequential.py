"""Layers one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from pycnn._formats import names
from pycnn.inference import Builder
from pycnn.layers import fusion, summary
from pycnn.layers.activation import ReLU
from pycnn.layers.base import Layer
from pycnn.layers.memory import Place
from pycnn.layers.pool import MaxPool2d
from pycnn.layers.run import Saved, Shape
from pycnn.ops.arrays import Array
from pycnn.preprocessing import Normalization


def _execution_order(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """A ReLU that is directly followed by a MaxPool2d runs after it, on fewer pixels.

    relu never decreases, so max(relu(x)) = relu(max(x)). A positive (or NaN) maximum is the same
    first pixel before and after relu, so its gradient goes to the same place. All other windows
    give zero, and no gradient: relu's mask is zero on all their pixels. Equal in every bit, but for
    the sign of a zero where a window holds -0.0.
    """
    order = list(layers)
    for i in range(len(layers) - 1):
        if type(layers[i]) is ReLU and type(layers[i + 1]) is MaxPool2d:
            order[i], order[i + 1] = layers[i + 1], layers[i]
    return tuple(order)


def _inner_place(before: Layer | None, layer: Layer) -> Place:
    """Where a result goes that only the next layer sees; `before` has just run."""
    if before is not None and before._owns_results and layer._works_in_place:
        return Place.IN_PLACE
    return Place.KEPT


def _inner_gradient_place(behind: Layer | None, layer: Layer) -> Place:
    """Where a dx goes that only the layer before sees; `behind` has just run backward."""
    if behind is not None and behind._owns_gradient and layer._gradient_in_place:
        return Place.IN_PLACE
    return Place.KEPT


def _first_with_parameters(order: tuple[Layer, ...]) -> int:
    trained = (i for i, layer in enumerate(order) if any(layer._named_parameters()))
    return next(trained, len(order))


class Sequential(Layer):
    """Layers one after the other: `Sequential(a, b)(x)` is `b(a(x))`.

    The layers are `model[0]`, `model[1]`, ...; their parameters are called "0.weight", "0.bias",
    ... Slices are Sequentials of the same layers. All results but the last are kept in the layers'
    own memory and written again by the next run, so after the first step of a training nothing
    large is allocated.

    `backward(dy, input_gradient=False)` stops at the first layer that has parameters, and does not
    compute its dx. A ReLU before a MaxPool2d runs after it, with the same numbers and gradients. A
    Conv2d, a MaxPool2d of 2 x 2 windows and the ReLU between or after them run as one block on
    float32: the same function, in another order of additions; a BatchNorm2d and a ReLU behind it
    run in one pass. `plan()` shows what runs, and `fuse(False)` turns it off. A block skips
    products with zero gradients, so a NaN or Inf in a weight or an activation may not show in a
    gradient.

    `normalization` says what images need before the first layer, `input_shape` the (H, W, C) or
    (features,) of one of them where it is known, `class_names` what the outputs are called: a
    trainer sets them, files and predictions keep them, forward uses none.

    Raises TypeError for something that is no layer, ValueError for no layers, or for the same layer
    twice: its second run would overwrite what its first one keeps for backward.
    """

    _normalization = Normalization()
    _input_shape: tuple[int, ...] | None = None
    _class_names: tuple[str, ...] | None = None

    def __init__(self, *layers: Layer) -> None:
        """Name the layers and choose the order of execution."""
        super().__init__()
        for i, layer in enumerate(layers):
            self._refuse_non_layer(i, layer)
        if not layers:
            self._refuse("no layers; expected at least one.")
        self._layers = layers
        self._named = {str(i): layer for i, layer in enumerate(layers)}
        self._refuse_repetition()
        self._plain_order = _execution_order(layers)
        self._fused_order = _execution_order(tuple(fusion.fused(layers)))
        self._fusing = True
        self._name_layers()
        self.parameters()  # names them

    @property
    def normalization(self) -> Normalization:
        """(image - mean) / std before the first layer, of images in 0 .. 1; at first the identity.

        Assigning anything but a Normalization is a TypeError.
        """
        return self._normalization

    @normalization.setter
    def normalization(self, value: Normalization) -> None:
        if not isinstance(value, Normalization):
            self._refuse(
                f"normalization is {value!r}; expected a pycnn.preprocessing.Normalization.",
                TypeError,
            )
        self._normalization = value

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """The shape of one image that the model was made for, without N; None if not known.

        Assigning a shape that a layer refuses is a ValueError.
        """
        return self._input_shape

    @input_shape.setter
    def input_shape(self, value: tuple[int, ...] | None) -> None:
        if value is not None:
            try:
                value = summary.one_image((None, *value))[1:]
            except TypeError:
                self._refuse(
                    f"input_shape is {value!r}; expected that of one image, for example "
                    "(28, 28, 1), or None.",
                    TypeError,
                )
            self._output_shape((1, *value))
        self._input_shape = value

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """A name for each output, in their order; None if the classes have none.

        Assigning what are no strings is a TypeError; another number than there are outputs (where
        input_shape is known), an empty name or the same one twice is a ValueError.
        """
        return self._class_names

    @class_names.setter
    def class_names(self, value: tuple[str, ...] | None) -> None:
        image = self._input_shape
        classes = None if image is None else self._output_shape((1, *image))[-1]
        try:
            self._class_names = names.class_names(value, classes)
        except (TypeError, ValueError) as error:
            self._refuse(str(error), type(error))

    def fuse(self, on: bool = True) -> Sequential:
        """Run blocks of layers as one operator, or with `on=False` every layer by itself.

        Holds for all Sequentials inside as well; returns the Sequential.
        """
        for layer in self._tree():
            if isinstance(layer, Sequential):
                layer._fusing = bool(on)
        return self

    def plan(self, input_shape: tuple[int | None, ...] | None = None) -> str:
        """What runs on float32, a line a step: its layers, and whether they are one block.

        With an input_shape, for example `(100, 28, 28, 1)`, also the algorithms of convolutions,
        which may differ for few images and for many; N = None stands for 1. Raises ValueError for a
        shape that a layer refuses, TypeError for one that is none.
        """
        shape = None if input_shape is None else summary.one_image(input_shape)
        if shape is not None:
            self._output_shape(shape)  # refuses in the name of the layer
        return fusion.describe(self._order(np.float32), shape)

    def _order(self, dtype: npt.DTypeLike) -> tuple[Layer, ...]:
        fused = self._fusing and np.dtype(dtype) == np.float32
        return self._fused_order if fused else self._plain_order

    def _forward(self, x: Array, place: Place) -> tuple[Array, Any]:
        order = self._order(x.dtype)
        last = len(order) - 1  # the one that writes what leaves this Sequential
        while last > 0 and order[last]._is_view():
            last -= 1
        before = None
        for i, layer in enumerate(order):
            x = layer._run_forward(x, place if i >= last else _inner_place(before, layer))
            before = layer
        return x, [(layer, layer._saved) for layer in order]

    def _backward(self, dy: Array, kept: Any, place: Place | None) -> Array | None:
        order = tuple(layer for layer, _ in kept)
        stop = 0 if place is not None else _first_with_parameters(order)
        first = stop  # the one that writes what leaves this Sequential
        while first < len(order) - 1 and order[first]._is_view():
            first += 1
        behind, gradient = None, dy if place is not None or stop < len(order) else None
        for i in reversed(range(stop, len(order))):
            assert gradient is not None
            layer = order[i]
            gradient = layer._run_backward(
                gradient, place if i <= first else _inner_gradient_place(behind, layer)
            )
            behind = layer
        return gradient

    def _ready(self) -> Saved:
        """Refuse before anything has run, so that no gradient is added in part."""
        saved = super()._ready()
        for layer, its_own in saved.kept:
            layer._ready()
            if layer._saved is not its_own:
                layer._refuse(
                    "it ran outside of this Sequential after the last forward, so its gradient "
                    "would belong to another x: call forward(x) of the Sequential again.",
                    RuntimeError,
                )
        return saved

    def _enter(self) -> None:
        super()._enter()
        self._name_layers()  # another Sequential with the same layer may have named it

    def _name_layers(self) -> None:
        for name, layer in self._children().items():
            layer._name = f"{self._name}.{name}" if self._name else name
            if isinstance(layer, Sequential):
                layer._name_layers()

    def _compile(self, net: Builder, x: Shape) -> None:
        for layer in self._order(np.float32):
            layer._compile(net, x)
            x = layer._output_shape(x)

    def _is_view(self) -> bool:
        return all(layer._is_view() for layer in self._layers)

    def _output_shape(self, x: Shape) -> Shape:
        for layer in self._layers:
            x = layer._output_shape(x)
        return x

    def flop_per_image(self, input_shape: tuple[int | None, ...]) -> int:
        """The sum over the layers."""
        return sum(row.flop for row in summary.rows(self, input_shape))

    def _children(self) -> Mapping[str, Layer]:
        return self._named

    def _refuse_non_layer(self, i: int, layer: object) -> None:
        if isinstance(layer, Layer):
            return
        advice = "a layer, for example ReLU()"
        if isinstance(layer, type) and issubclass(layer, Layer):
            advice = f"a layer, not its class: write {layer.__name__}(...)"
        elif isinstance(layer, (list, tuple)):
            advice = "layers, not a list of them: write Sequential(*layers)"
        self._refuse(f"argument {i} is {layer!r}; expected {advice}.", TypeError)

    def _refuse_repetition(self) -> None:
        seen: dict[int, str] = {}
        for name, layer in self._children().items():
            for part in layer._tree():
                if id(part) in seen:
                    self._refuse(
                        f"layers {seen[id(part)]} and {name} are or hold the same {part!r}; "
                        "expected different ones: its second run would overwrite what it keeps."
                    )
                seen[id(part)] = name

    def __len__(self) -> int:
        """The number of layers."""
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        """The layers in order."""
        return iter(self._layers)

    @overload
    def __getitem__(self, index: int) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Layer | Sequential:
        """A layer, or a Sequential of several (the same objects)."""
        if isinstance(index, slice):
            part = Sequential(*self._layers[index])
            if part._layers[0] is self._layers[0]:
                part._normalization, part._input_shape = self._normalization, self._input_shape
            if part._layers[-1] is self._layers[-1]:
                part._class_names = self._class_names
            return part
        return self._layers[index]

    def __repr__(self) -> str:
        """One layer a line, with its index."""
        lines = (f"({name}): {layer!r}" for name, layer in self._children().items())
        inner = "\n".join(lines).replace("\n", "\n  ")
        return f"Sequential(\n  {inner}\n)"
