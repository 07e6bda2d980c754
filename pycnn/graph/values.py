"""Symbolic arrays and the calls that make them: what flows while a network is traced.

Tracing runs a module's `forward` once with `Value`s in the place of arrays. Each call of a layer
with a Value is written down as a `Node` and gives new Values; nothing is computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

import numpy as np

Shape = tuple[int, ...]


class Operation(Protocol):
    """What the graph asks of a layer, or of an operator that stands for several."""

    training: bool
    results: int  # how many arrays it gives

    def infer_shape(self, x: Any) -> Any:
        """The shape of the result, or a tuple of shapes where there are several."""


class Value:
    """An array that is not there yet: `shape` is known but for N, which is None.

    Values are added, subtracted, multiplied and divided with values (which may repeat along axes of
    extent 1), with numbers and with a model's Parameters, and given to layers and to the functions
    of `pycnn.layers`.
    """

    __slots__ = ("_shape", "node", "trace")
    # The operators + - * /, set by `pycnn.layers.arithmetic`: name -> function of two operands.
    operators: Mapping[str, Callable[[Any, Any], Value]] = {}

    def __init__(self, trace: Trace, shape: Shape | None, node: Node | None) -> None:
        """The result of `node`, or an input (None), of a shape with N, or of an unknown one."""
        self.trace, self._shape, self.node = trace, shape, node

    @property
    def shape(self) -> tuple[int | None, ...]:
        """(None, ...): the first axis is N, any number of images."""
        return (None, *self.full_shape[1:])

    @property
    def full_shape(self) -> Shape:
        """The shape with the N of the images that the network was traced for."""
        if self._shape is None:
            raise TypeError(
                "the shape of this value is not known yet; name it: write "
                "model.plan((None, H, W, C)), or set model.input_shape."
            )
        return self._shape

    @property
    def known_shape(self) -> Shape | None:
        """The shape with N, or None where the network is traced without shapes."""
        return self._shape

    @property
    def ndim(self) -> int:
        """The number of axes, with N."""
        return len(self.full_shape)

    def __add__(self, other: Any) -> Value:
        """Elementwise sum."""
        return self.operators["add"](self, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Value:
        """Elementwise difference."""
        return self.operators["subtract"](self, other)

    def __rsub__(self, other: Any) -> Value:
        """A number or Parameter minus this."""
        return self.operators["subtract"](other, self)

    def __mul__(self, other: Any) -> Value:
        """Elementwise product."""
        return self.operators["multiply"](self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Value:
        """Elementwise quotient."""
        return self.operators["divide"](self, other)

    def __rtruediv__(self, other: Any) -> Value:
        """A number or Parameter by this."""
        return self.operators["divide"](other, self)

    def __neg__(self) -> Value:
        """The product with -1."""
        return self.operators["multiply"](self, -1.0)

    def __repr__(self) -> str:
        """The shape."""
        return f"Value({self._shape and (None, *self._shape[1:])})"

    def __bool__(self) -> bool:
        """Refused: there is no number yet."""
        _refuse("a truth value (if, while, and, not, assert)", "branch on x.shape or on arguments")

    def __iter__(self) -> Any:
        """Refused: there is no number yet."""
        _refuse("iteration", "return several values from a layer, or take them as arguments")

    def __getitem__(self, index: Any) -> Any:
        """Refused: there is no number yet."""
        _refuse(f"the index {index!r}", "write a layer that cuts its input")

    def __len__(self) -> int:
        """Refused: N is not known."""
        _refuse("len(), the number of images,", "use x.shape[1:]; N is another one in each call")

    def __array__(self, *_: Any, **__: Any) -> Any:
        """Refused: there is no number yet."""
        _refuse("a NumPy array", "use layers and + - * /, or write a layer (docs/write_a_layer.md)")

    def __array_ufunc__(self, function: Any, *_: Any, **__: Any) -> Any:
        """Refused: NumPy computes numbers."""
        _refuse(
            f"np.{function.__name__}, or an operator between it and an array,",
            "use layers and + - * / with Parameters, or write a layer (docs/write_a_layer.md)",
        )

    def __array_function__(self, function: Any, *_: Any, **__: Any) -> Any:
        """Refused: NumPy computes numbers."""
        _refuse(
            f"np.{getattr(function, '__name__', function)}",
            "use layers and + - * /, or write a layer (docs/write_a_layer.md)",
        )

    def _no_number(self, *_: Any) -> Any:
        _refuse("a number or a comparison", "branch on x.shape or on arguments, not on its numbers")

    __float__ = __int__ = __index__ = __complex__ = _no_number
    __lt__ = __le__ = __gt__ = __ge__ = _no_number

    def __getattr__(self, name: str) -> NoReturn:
        """Refused with what a Value has."""
        raise AttributeError(
            f"a Value has no attribute {name!r}: a network is traced once, for all inputs, before "
            "there are numbers; it has shape and ndim. Use layers and + - * /, or write a layer "
            "(docs/write_a_layer.md)."
        )


def _refuse(what: str, instead: str) -> NoReturn:
    raise TypeError(
        f"{what} of a Value: a network is traced once, for all inputs, before there are numbers; "
        f"{instead}."
    )


def _kind(value: object) -> str:
    return "a NumPy array" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


class Node:
    """One call: an operation, the values that go in, and those that come out.

    label: how sentences and listings call it, "layer1.0.conv1 (Conv2d)". name: the path of the
    layer's attributes, "layer1.0.conv1"; of a function the path of the module that called it.
    """

    __slots__ = ("in_model", "inputs", "label", "name", "operation", "outputs")

    def __init__(
        self, operation: Any, inputs: Sequence[Value], name: str, in_model: bool = True
    ) -> None:
        """Without outputs yet; in_model: whether the layer itself is what `name` names."""
        self.operation, self.inputs, self.name = operation, tuple(inputs), name
        self.in_model = in_model
        self.label = label_of(name, operation)
        self.outputs: tuple[Value, ...] = ()

    @property
    def kind(self) -> str:
        """The name of the layer's class."""
        return type(self.operation).__name__


def label_of(name: str, operation: object) -> str:
    """How a sentence calls a layer: "layer1.0.conv1 (Conv2d)", "layer 0 (Conv2d)", "Conv2d"."""
    kind = type(operation).__name__
    if not name:
        return kind
    return f"{'layer ' if name[:1].isdigit() else ''}{name} ({kind})"


def renamed(error: Exception, label: str) -> Exception | None:
    """`error` in the name of `label`, if a layer has refused something without a name."""
    sentence = getattr(error, "refused", None)
    if sentence is None:
        return None
    return type(error)(f"{label}: {sentence}")


class Trace:
    """The calls of one run of a network's forward with values.

    root: the module that is traced; names: its layers' names by id.
    """

    def __init__(self, root: object, names: Mapping[int, str]) -> None:
        """Nothing has been called."""
        self.root, self.names = root, names
        self.nodes: list[Node] = []
        self._scope: list[str] = []
        self._modes: list[bool] = []  # of the modules that are running

    def call(self, layer: Any, xs: tuple[Any, ...]) -> Any:
        """What layer(*xs) means during the trace: its forward, or a node."""
        _check_values(layer, xs)
        name = self.names.get(id(layer))
        in_model = name is not None
        if hasattr(layer, "trace_forward"):
            self._scope.append(name if name is not None else self._scope[-1])
            self._modes.append(layer.training)
            try:
                return layer.trace_forward(*xs)
            finally:
                self._scope.pop()
                self._modes.pop()
        if name is None:
            self._refuse_unknown(layer)
            name = self._scope[-1] if self._scope else ""  # the module that calls it
            layer.training = self._modes[-1] if self._modes else True
        return self._add(Node(layer, xs, name, in_model))

    def _add(self, node: Node) -> Any:
        node.outputs = tuple(Value(self, shape, node) for shape in infer(node))
        self.nodes.append(node)
        return node.outputs[0] if node.operation.results == 1 else node.outputs

    def _refuse_unknown(self, layer: Any) -> None:
        """A layer with parameters that model.parameters() would not list."""
        listed = {id(parameter) for _, parameter in self.root.named_parameters()}  # type: ignore[attr-defined]
        if not {id(parameter) for _, parameter in layer.named_parameters()} <= listed:
            raise ValueError(
                f"{label_of('', self.root)}: {layer!r} is called in forward but is no attribute of "
                "the model, so its parameters would not be trained: write self.name = layer in "
                "__init__."
            )


def _check_values(layer: object, xs: tuple[Any, ...]) -> None:
    for i, x in enumerate(xs):
        if not isinstance(x, Value):
            raise TypeError(
                f"{label_of('', layer)}: argument {i} is {_kind(x)} beside a Value; expected "
                "Values only: keep constants in a layer of your own, as Parameters or arrays."
            )
        if x.trace is not xs[0].trace:
            raise ValueError(
                f"{label_of('', layer)}: argument {i} is a value of another network; expected "
                "values of one: what forward gets, or what is made from it."
            )


def infer(node: Node) -> tuple[Shape | None, ...]:
    """The shape of each of a node's results; None where its inputs' are not known.

    The sentence of a layer that refuses a shape begins with the node's label.
    """
    layer = node.operation
    shapes = tuple(x.known_shape for x in node.inputs)
    if None in shapes:
        return (None,) * int(layer.results)
    try:
        found = layer.infer_shape(shapes[0] if len(shapes) == 1 else shapes)
    except (TypeError, ValueError) as error:
        raise renamed(error, node.label) or error from None
    each = (found,) if layer.results == 1 else found
    N = shapes[0][0]  # type: ignore[index]
    right = isinstance(each, (tuple, list)) and len(each) == layer.results
    if not right or not all(isinstance(y, (tuple, list)) and y and y[0] == N for y in each):
        raise ValueError(
            f"{node.label}: infer_shape gave {found!r} for {shapes}; expected "
            + ("a shape" if layer.results == 1 else f"{layer.results} shapes")
            + f" whose first extent is N = {N}."
        )
    shapes_of: list[Shape] = [tuple(y) for y in each]
    return tuple(shapes_of)


def size(shape: Shape) -> int:
    """Numbers an image."""
    return math.prod(shape[1:])
