"""Networks the functional way: values of `Input`, layers called on them, a `Graph` of it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pycnn.graph.program import Program
from pycnn.graph.values import Node, Trace, Value, infer, label_of
from pycnn.layers import arithmetic, moves, summary
from pycnn.layers.base import Layer
from pycnn.layers.module import Module

# What operators and functions of values make; such layers have no names of their own.
FUNCTIONS = *arithmetic.FUNCTIONS, moves.Concat, moves.Split


class _Free(Trace):
    """Calls outside of any forward: each is a node, that of a whole module as well."""

    def __init__(self) -> None:
        """One for all: a `Graph` takes what its outputs need."""
        super().__init__(None, {})

    def call(self, layer: Any, xs: tuple[Any, ...]) -> Any:
        """A node, which nothing but its results holds on to."""
        for i, x in enumerate(xs):
            if not isinstance(x, Value) or x.trace is not self:
                raise TypeError(
                    f"{label_of('', layer)}: argument {i} is no value of layers.Input; expected "
                    "Inputs and what layers made of them."
                )
        node = Node(layer, xs, "")
        if isinstance(layer, Module):
            ys = layer.program(*(x.full_shape for x in node.inputs)).outputs
            node.outputs = tuple(Value(self, y.full_shape, node) for y in ys)
            return node.outputs[0] if len(ys) == 1 else node.outputs
        node.outputs = tuple(Value(self, shape, node) for shape in infer(node))
        return node.outputs[0] if layer.results == 1 else node.outputs


_FREE = _Free()


def Input(shape: Sequence[int]) -> Value:
    """A value for a `Graph` to begin with: one image's shape, (H, W, C) or (features,), without N.

    Raises TypeError for what is no shape.
    """
    return Value(_FREE, summary.one_image((None, *shape)), None)


class Graph(Module):
    """The network from `inputs` to `outputs`, values of `Input` and of layers called on them.

        x = layers.Input((32, 32, 3))
        y = layers.Conv2d(3, 16, 3, padding="same")(x)
        model = layers.Graph(x, layers.concat([x, layers.relu(y)]))

    inputs, outputs: a value, or a tuple of several. The layers are "0", "1", ... in the order of
    their first calls, and their parameters "0.weight", ...; a module counts as one layer. A layer
    that is called twice shares its weights.

    Raises TypeError for what are no values of `Input`, ValueError for an output that needs another
    input.
    """

    def __init__(self, inputs: Value | Sequence[Value], outputs: Value | Sequence[Value]) -> None:
        """Collect what leads from the inputs to the outputs."""
        super().__init__()
        starts, ends = self._checked(inputs, "inputs"), self._checked(outputs, "outputs")
        program = Program(starts, ends, self._collect(starts, ends))
        self._calls = [
            (node.operation, program.ids(node.inputs), program.ids(node.outputs))
            for node in program.nodes
        ]
        self._input_ids, self._output_ids = program.ids(starts), program.ids(ends)
        layers = {id(layer): layer for layer, _, _ in self._calls}.values()
        kept = [
            layer
            for layer in layers
            if not isinstance(layer, FUNCTIONS) or any(True for _ in layer.named_parameters())
        ]
        self._named: dict[str, Layer] = {str(i): layer for i, layer in enumerate(kept)}
        self._alone = False  # whether eval mode has calls of its own
        self._eval_calls, self._eval_output_ids = self._calls, self._output_ids
        self.results = len(ends)
        if len(starts) == 1:
            self._input_shape = starts[0].full_shape[1:]
        self.parameters()  # names them

    @classmethod
    def from_calls(
        cls,
        layers: Mapping[str, Layer],
        calls: Mapping[bool, Sequence[tuple[Layer, tuple[int, ...], tuple[int, ...]]]],
        inputs: int,
        outputs: Mapping[bool, tuple[int, ...]],
    ) -> Graph:
        """A network as data: what `modelfile.load_model` makes.

        layers: by name. calls: (layer, numbers of the values it reads, of those it gives), in
        training mode (True) and in eval mode. The inputs are the values 0, 1, ...
        """
        graph = cls.__new__(cls)
        Module.__init__(graph)
        graph._named = dict(layers)
        graph._calls, graph._output_ids = list(calls[True]), outputs[True]
        graph._alone = list(calls[False]) != graph._calls or outputs[False] != outputs[True]
        graph._eval_calls, graph._eval_output_ids = list(calls[False]), outputs[False]
        graph._input_ids = tuple(range(inputs))
        graph.results = len(outputs[True])
        graph.parameters()
        return graph

    def name_layers(self, names: Mapping[str, Layer]) -> None:
        """Call the layers by these names, in their order; names of other layers do not matter."""
        held = {id(layer) for layer in self._named.values()}
        self._named = {name: layer for name, layer in names.items() if id(layer) in held}
        self.parameters()  # names them

    def forward(self, *xs: Value) -> Any:
        """Each call in its order."""
        if len(xs) != len(self._input_ids):
            self.refuse(f"got {len(xs)} inputs; expected {len(self._input_ids)}.", TypeError)
        in_eval = self._alone and not self.training
        calls = self._eval_calls if in_eval else self._calls
        known = dict(zip(self._input_ids, xs, strict=True))
        for layer, reads, gives in calls:
            ys = layer(*(known[i] for i in reads))
            known.update(zip(gives, ys if isinstance(ys, tuple) else (ys,), strict=True))
        ends = self._eval_output_ids if in_eval else self._output_ids
        ys = tuple(known[i] for i in ends)
        return ys[0] if len(ys) == 1 else ys

    def children(self) -> Mapping[str, Layer]:
        """The layers by name."""
        return self._named

    def __getitem__(self, name: str) -> Layer:
        """The layer with this name; KeyError names those there are."""
        if name not in self._named:
            raise KeyError(f"{name!r}; this network has {', '.join(self._named)}")
        return self._named[name]

    def _checked(self, values: Any, name: str) -> tuple[Value, ...]:
        several = tuple(values) if isinstance(values, (tuple, list)) else (values,)
        for value in several:
            if not isinstance(value, Value) or value.trace is not _FREE:
                self.refuse(
                    f"{name} holds a {type(value).__name__}; expected values: layers.Input(shape) "
                    "and what layers made of it.",
                    TypeError,
                )
        if not several or (name == "inputs" and any(value.node for value in several)):
            self.refuse(f"{name} is {values!r}; expected values of layers.Input.")
        return several

    def _collect(self, starts: Sequence[Value], ends: Sequence[Value]) -> list[Node]:
        """The nodes that the outputs need, each behind those that it needs."""
        done: set[int] = set()
        order: list[Node] = []
        waiting: list[tuple[Value, bool]] = [(end, False) for end in reversed(ends)]
        while waiting:
            value, ready = waiting.pop()
            node = value.node
            if node is None:
                if not any(value is start for start in starts):
                    self.refuse("an output needs an Input that is none of inputs; name it there.")
                continue
            if id(node) in done:
                continue
            if ready:
                done.add(id(node))
                order.append(node)
            else:
                waiting.append((value, True))
                waiting += [(x, False) for x in reversed(node.inputs)]
        return order
