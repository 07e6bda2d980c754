"""Layers one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, overload

from pycnn.layers.base import Layer
from pycnn.layers.module import Module


class Sequential(Module):
    """Layers one after the other: `Sequential(a, b)(x)` is `b(a(x))`.

    The layers are `model[0]`, `model[1]`, ...; their parameters are called "0.weight", "0.bias",
    ... Slices are Sequentials of the same layers. All results but the last are kept in memory that
    the next run writes again, so after the first step of a training nothing large is allocated.

    `backward(dy, input_gradient=False)` stops at the first layer that has parameters, and does not
    compute its dx. What one operator computes runs as one on float32: a Conv2d, a MaxPool2d of 2 x
    2 windows and the ReLU between or after them, a BatchNorm2d and a ReLU behind it, a ReLU before
    a MaxPool2d after it. It is the same function, in another order of additions; `plan()` shows
    what runs, and `fuse(False)` turns it off. Convolution + relu + pool skips products with zero
    gradients, so a NaN or Inf in a weight or an activation may not show in a gradient.

    Raises TypeError for something that is no layer, ValueError for no layers.
    """

    def __init__(self, *layers: Layer) -> None:
        """Name the layers."""
        super().__init__()
        for i, layer in enumerate(layers):
            self._refuse_non_layer(i, layer)
        if not layers:
            self.refuse("no layers; expected at least one.")
        self._layers = layers
        self.parameters()  # names them

    def forward(self, x: Any) -> Any:
        """Each layer on what the one before gives."""
        for layer in self._layers:
            x = layer(x)
        return x

    def children(self) -> Mapping[str, Layer]:
        """The layers by their place, then those in attributes of a subclass."""
        placed = {str(i): layer for i, layer in enumerate(self._layers)}
        return placed | {k: v for k, v in super().children().items() if k[:8] != "_layers."}

    def _refuse_non_layer(self, i: int, layer: object) -> None:
        if isinstance(layer, Layer):
            return
        advice = "a layer, for example ReLU()"
        if isinstance(layer, type) and issubclass(layer, Layer):
            advice = f"a layer, not its class: write {layer.__name__}(...)"
        elif isinstance(layer, (list, tuple)):
            advice = "layers, not a list of them: write Sequential(*layers)"
        self.refuse(f"argument {i} is {layer!r}; expected {advice}.", TypeError)

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
