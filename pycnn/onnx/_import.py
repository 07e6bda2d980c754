"""`import_onnx`: an ONNX graph as a `layers.Graph`."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from pycnn._formats.files import FileError, FilePath
from pycnn.graph.values import Value
from pycnn.layers.network import Graph, Input
from pycnn.onnx import patterns
from pycnn.onnx.fold import CountsImages
from pycnn.onnx.nodes import FEWER, OnnxGraph, OnnxInput, OnnxNode, load
from pycnn.onnx.operators import OLDEST, readers
from pycnn.onnx.reading import Reading, Unknown
from pycnn.onnx.views import Unreadable, View, default_order, own_order
from pycnn.ops.arrays import Array
from pycnn.preprocessing import Normalization

TO_NCHW = (0, 3, 1, 2)
SOFTMAX = ("LogSoftmax", "Softmax")  # at the end of a classifier; pycnn's give logits
# What may stand between an NHWC input and the Transpose that turns it.
BEFORE = ("Add", "Cast", "Div", "Dropout", "Identity", "Mul", "Pad", "Sub")
# What reads [N, C, L] with its channels first.
CHANNELS_FIRST = (
    "AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "GlobalAveragePool",
    "GlobalMaxPool", "InstanceNormalization", "MaxPool",
)  # fmt: skip


def import_onnx(path: FilePath, *, softmax: bool = False) -> Graph:
    """The network of an ONNX file, in eval mode; trainable, to be saved, exported again.

    The graph may branch and join as it likes. Its operators are those of the table in
    docs/formats.md; what is computed of shapes and constants alone is computed here. N, the number
    of images, is free, whatever the file says. All arrays are float32. Normalisation that the
    exporter has folded into convolutions stays folded: training goes on without it. Dropout is
    left out, and so, with a UserWarning, is a Softmax or LogSoftmax at the end: the model gives
    logits; `softmax=True` keeps it. Where the input is NCHW, a GlobalAveragePool at the end
    gives [N, C] rather than [N, C, 1, 1].

    Images of the model are NHWC. A graph whose input is NCHW, as PyTorch writes them, computes the
    same on `x.transpose(0, 2, 3, 1)`; results that are images in NCHW are given as NHWC as well,
    anything else in ONNX's axes. Of [N, C, L] that a convolution reads, the model takes [N, L, C].
    Sub and Div by constants right after an NHWC input become `model.normalization`, and an entry
    "class_names" of export_onnx `model.class_names`. Layers have the names of the file's arrays,
    "layer1.0.conv1" of "layer1.0.conv1.weight", else of its nodes.

    Raises ImportError without onnx (extra "onnx"); FileError for what is no ONNX file, and with the
    names of all nodes that are not known or say something that no layer can do.
    """
    graph = load(path)
    try:
        return Importer(graph.copy(), path, softmax=softmax).model()
    except CountsImages:
        for given in graph.inputs:
            given.stand_in = FEWER
        return Importer(graph, path, softmax=softmax).model()


class Importer:
    """From a graph to a model; `reading` keeps how its tensors lie in the model's values.

    whole: the inputs are not cut into images: N is 1, and all their axes stand behind it.
    """

    def __init__(
        self,
        graph: OnnxGraph,
        path: FilePath,
        *,
        softmax: bool = False,
        whole: bool = False,
        normalize: bool = True,
    ) -> None:
        """Nothing is read yet."""
        self.graph, self.path, self.softmax, self.whole = graph, path, softmax, whole
        self.normalize = normalize
        uses = graph.uses()  # Keras leaves inputs behind that nothing reads
        graph.inputs = [given for given in graph.inputs if uses[given.name]]
        self.normalization = Normalization()
        self.inputs: list[Value] = []
        self.outputs: list[tuple[View, list[int | None]]] = []

    def refuse(self, why: str) -> NoReturn:
        """FileError with the file's name."""
        raise FileError(f"{self.path}: {why.rstrip('.')}.") from None

    def model(self) -> Graph:
        """The network."""
        graph = self.graph
        if graph.opset < OLDEST:
            self.refuse(f"the graph: its opset is {graph.opset}; expected {OLDEST} or later")
        reading = self.read()
        for name in graph.outputs:
            if isinstance(reading.tensors.get(name), np.ndarray):
                self.refuse(
                    f"the graph: its output {name!r} is a constant; expected a computed one"
                )
        model = self.network(graph.outputs)
        model.normalization = self.normalization
        shapes = [given.extents for given in graph.inputs]
        if len(shapes) > 1 or None in shapes[0][1:]:  # type: ignore[index]
            model._input_shape = None
            # What model files describe it with.
            model._running.last_shapes = tuple((1, *x.full_shape[1:]) for x in self.inputs)
        # Another program's entry of that name may be anything, and is no part of the graph.
        with contextlib.suppress(TypeError, ValueError):
            model.class_names = graph.class_names
        return model

    def read(self) -> Reading:
        """What each tensor of the graph is; FileError names all nodes that cannot be read."""
        graph = self.graph
        self._check_inputs()
        if self.normalize:
            self._normalize()
        graph.nodes = patterns.simplified(graph)
        reading = self.reading = Reading(graph)
        for given in graph.inputs:
            view = self._input(given)
            self.inputs.append(view.value)
            reading.tensors[given.name] = view
        reading.read(readers(graph.opset) | dict.fromkeys(SOFTMAX, self._softmax))
        self._refuse_problems(reading.problems)
        return reading

    def network(self, names: Sequence[str]) -> Graph:
        """What computes these outputs, in eval mode."""
        values = [self._output(name) for name in names]
        network = Graph(self.inputs, values)
        network.name_layers(self.reading.names)
        return network.eval()

    def _refuse_problems(self, problems: Sequence[str]) -> None:
        if len(problems) == 1:
            self.refuse(problems[0])
        if problems:
            lines = "".join(f"\n  {problem}." for problem in problems)
            raise FileError(f"{self.path}: {len(problems)} nodes cannot be read:{lines}")

    # ---- inputs ----------------------------------------------------------------------------

    def _check_inputs(self) -> None:
        if not self.graph.inputs and not self.whole:
            self.refuse("the graph: it has no inputs")
        for given in self.graph.inputs:
            if not given.is_float:
                self.refuse(f"the graph: its input {given.name!r} is not float32")
            if given.extents is None or (len(given.extents) < 2 and not self.whole):
                self.refuse(
                    f"the graph: its input {given.name!r} has "
                    f"{'unknown' if given.extents is None else len(given.extents)} axes; expected "
                    "[N, ...]"
                )
        batches = {given.shape[0] for given in self.graph.inputs if given.shape}
        if len(batches) > 1 and not self.whole:
            self.refuse(f"the graph: the first axes of its inputs differ: {sorted(batches)}")

    def _input(self, given: OnnxInput) -> View:
        shape = given.shape
        if self.whole:
            axes = [(i + 1,) for i in range(len(shape))]
            return View(Input(shape or (1,)), axes, 1)
        order = self._order(given)
        value = Input(tuple(shape[i] for i in order[1:]))
        return View(value, [(order.index(i),) for i in range(len(shape))], shape[0])

    def given(self, i: int, x: Array) -> Array:
        """Input i as the model takes it."""
        if self.whole:
            return np.ascontiguousarray(x if x.ndim else x[None])[None]
        return np.ascontiguousarray(x.transpose(self._order(self.graph.inputs[i])))

    def _order(self, given: OnnxInput) -> tuple[int, ...]:
        """The input's axes in the order of the model's."""
        rank = len(given.shape)
        natural = tuple(range(rank))
        if rank == 4:
            return natural if self._is_nhwc(given) else (0, 2, 3, 1)
        if rank == 3:
            readers = self._readers(given.name, BEFORE)
            return (0, 2, 1) if any(n.operator in CHANNELS_FIRST for n in readers) else natural
        return natural

    def _is_nhwc(self, given: OnnxInput) -> bool:
        """Whether all that reads the input turns it to NCHW first."""
        found = self._readers(given.name, BEFORE)
        gray = given.shape[3] == 1  # then a Reshape turns it as well
        return bool(found) and all(
            (n.operator == "Transpose" and tuple(n.get("perm", ())) == TO_NCHW)
            or (gray and n.operator == "Reshape")
            for n in found
        )

    def _readers(self, name: str, through: Sequence[str]) -> list[OnnxNode]:
        """What reads an array, or what nodes of the kinds `through` make of it with constants."""
        found: list[OnnxNode] = []
        names = {name}
        for node in self.graph.nodes:
            if names.isdisjoint(node.inputs):
                continue
            others = [n for n in node.inputs if n and n not in names and not self._known(n)]
            if node.operator in through and not others:
                names.update(node.outputs)
            else:
                found.append(node)
        return found

    def _known(self, name: str) -> bool:
        """Whether it is a constant of the file."""
        return name in self.graph.constants or any(
            name in node.outputs and node.operator == "Constant" for node in self.graph.nodes
        )

    # ---- what export_onnx writes, and what classifiers end with -----------------------------

    def _normalize(self) -> None:
        """Take Sub and Div right after the only input, if it is not NCHW."""
        graph = self.graph
        if len(graph.inputs) != 1:
            return
        (given,) = graph.inputs
        rank = len(given.shape)
        if rank not in (2, 4) or (rank == 4 and not self._is_nhwc(given)):
            return
        mean: Any = 0.0
        std: Any = 1.0
        for operator in ("Sub", "Div"):
            readers = [node for node in graph.nodes if given.name in node.inputs]
            if len(readers) != 1 or given.name in graph.outputs:
                break
            (node,) = readers
            if node.operator != operator or node.inputs[0] != given.name:
                continue
            constant = graph.constants.get(node.inputs[1])
            if constant is None or (constant.size > 1 and constant.shape != given.shape[-1:]):
                break
            number = float(constant.reshape(-1)[0]) if constant.size == 1 else tuple(
                constant.tolist())  # fmt: skip
            mean, std = (number, std) if operator == "Sub" else (mean, number)
            graph.nodes.remove(node)
            for other in graph.nodes:
                other.inputs = [given.name if n == node.outputs[0] else n for n in other.inputs]
            graph.outputs = [given.name if n == node.outputs[0] else n for n in graph.outputs]
        with contextlib.suppress(ValueError):
            self.normalization = Normalization(mean, std)

    def _softmax(self, reading: Reading) -> Any:
        """The reader of a softmax, which leaves out one over classes that makes an output."""
        r, kept = reading, readers(self.graph.opset)[reading.node.operator]
        x, name = r.view(), r.node.outputs[0]
        axis = r.node.get("axis", -1 if r.opset >= 13 else 1)
        classes = x.rank > 1 and axis in (1, x.rank - 1, -1) and all(n == 1 for n in x.shape[2:])
        if self.softmax or name not in self.graph.outputs or r.uses[name] > 1 or not classes:
            return kept(r)
        warnings.warn(
            f"{self.path}: {r.node.where} is left out: the model gives logits, as Trainer and "
            "pycnn.predict expect; ops.softmax(model(x)) gives the probabilities.",
            stacklevel=6,
        )
        return x

    # ---- outputs ---------------------------------------------------------------------------

    def _output(self, name: str) -> Value:
        reading = self.reading
        view = reading.tensors.get(name)
        if view is None or isinstance(view, Unknown):
            self.refuse(f"the graph: nothing gives its output {name!r}")
        reading.node = OnnxNode(len(self.graph.nodes), "output", "output", [name], [], {})
        try:
            order = self._output_order(view)
            value = reading.arrange(view, order)
        except (Unreadable, ValueError) as error:
            self.refuse(f"the graph: its output {name!r}: {error}")
        self.outputs.append((view, order))
        return value

    def _output_order(self, view: View) -> list[int | None]:
        """The output's axes in the order of the model's: see `import_onnx`."""
        if view.rank < 2 or self.whole:  # [N] as [N, 1]
            order = default_order(view.rank, not self.whole)
            return order if len(order) > 1 else [*order, None]
        inputs = [given for given in self.graph.inputs if len(given.shape) > 2]
        as_given = inputs and all(self._order(x) == tuple(range(len(x.shape))) for x in inputs)
        if view.rank > 2 and all(n == 1 for n in view.shape[2:]) and not as_given:
            return [0, 1]  # of a global pool
        own = own_order(view, view.rank)
        if view.rank == 4:
            images = [given for given in self.graph.inputs if len(given.shape) == 4]
            as_it_is = own == [0, 1, 2, 3] or (images and all(map(self._is_nhwc, images)))
            return [0, 1, 2, 3] if as_it_is else [0, 2, 3, 1]
        if (
            view.rank == 3
            and own == [0, 2, 1]
            and any(
                len(given.shape) == 3 and self._order(given) == (0, 2, 1)
                for given in self.graph.inputs
            )
        ):
            return [0, 2, 1]
        return list(range(view.rank))
