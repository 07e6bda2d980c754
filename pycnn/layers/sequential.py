"""Layers one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, overload

from pycnn._arrays import Array
from pycnn.layers import summary
from pycnn.layers.activation import ReLU
from pycnn.layers.base import Layer
from pycnn.layers.memory import Place
from pycnn.layers.pool import MaxPool2d
from pycnn.layers.run import Saved, Shape


def _execution_order(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """A ReLU that is directly followed by a MaxPool2d runs after it, on fewer pixels.

    relu never decreases, so max(relu(x)) = relu(max(x)). A positive (or NaN) maximum is the same
    first pixel before and after relu, so its gradient goes to the same place. All other windows
    give zero, and no gradient: relu's mask is zero on all their pixels. Equal in every bit, but for
    the sign of a zero where a window holds -0.0.

    This is also the place where runs of layers will become one fused block.
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


class Sequential(Layer):
    """Layers one after the other: `Sequential(a, b)(x)` is `b(a(x))`.

    The layers are `model[0]`, `model[1]`, ...; their parameters are called "0.weight", "0.bias",
    ... Slices are Sequentials of the same layers. All results but the last are kept in the layers'
    own memory and written again by the next run, so after the first step of a training nothing
    large is allocated.

    `backward(dy, input_gradient=False)` stops at the first layer that has parameters, and does not
    compute its dx. A ReLU before a MaxPool2d runs after it, with the same numbers and gradients.

    Raises TypeError for something that is no layer, ValueError for no layers, or for the same layer
    twice: its second run would overwrite what its first one keeps for backward.
    """

    def __init__(self, *layers: Layer) -> None:
        """Name the layers and choose the order of execution."""
        super().__init__()
        for i, layer in enumerate(layers):
            self._refuse_non_layer(i, layer)
        if not layers:
            self._refuse("no layers; expected at least one.")
        self._layers = layers
        self._refuse_repetition()
        self._order = _execution_order(layers)
        self._name_layers()
        self.parameters()  # names them

    def _forward(self, x: Array, place: Place) -> tuple[Array, Any]:
        order = self._order
        last = len(order) - 1  # the one that writes what leaves this Sequential
        while last > 0 and order[last]._is_view():
            last -= 1
        before = None
        for i, layer in enumerate(order):
            x = layer._run_forward(x, place if i >= last else _inner_place(before, layer))
            before = layer
        return x, [layer._saved for layer in order]

    def _backward(self, dy: Array, kept: Any, place: Place | None) -> Array | None:
        order = self._order
        stop = 0 if place is not None else self._first_with_parameters()
        first = stop  # the one that writes what leaves this Sequential
        while first < len(order) - 1 and order[first]._is_view():
            first += 1
        before, gradient = None, dy if place is not None or stop < len(order) else None
        for i in reversed(range(stop, len(order))):
            assert gradient is not None
            layer = order[i]
            gradient = layer._run_backward(
                gradient, place if i <= first else _inner_place(before, layer)
            )
            before = layer
        return gradient

    def _ready(self) -> Saved:
        """Refuse before anything has run, so that no gradient is added in part."""
        saved = super()._ready()
        for layer, its_own in zip(self._order, saved.kept, strict=True):
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

    def _first_with_parameters(self) -> int:
        trained = (i for i, layer in enumerate(self._order) if any(layer._named_parameters()))
        return next(trained, len(self._order))

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
        return {str(i): layer for i, layer in enumerate(self._layers)}

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
            return Sequential(*self._layers[index])
        return self._layers[index]

    def __repr__(self) -> str:
        """One layer a line, with its index."""
        lines = (f"({name}): {layer!r}" for name, layer in self._children().items())
        inner = "\n".join(lines).replace("\n", "\n  ")
        return f"Sequential(\n  {inner}\n)"
