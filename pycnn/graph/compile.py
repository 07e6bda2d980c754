"""Networks whose weights no longer change: `model.compile_inference(input_shape)`.

The eval plan, with normalisation folded into the convolution before it, becomes a list of C++ steps
on one arena; weights are packed once, and one call from Python runs all of it, chunk by chunk.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import _pycnn
import numpy as np

from pycnn.graph.fuse import Step
from pycnn.graph.plan import Plan, is_view
from pycnn.graph.program import Program
from pycnn.graph.values import Shape, Value, size
from pycnn.ops.arrays import Array, kind_of, to_write
from pycnn.preprocessing import Normalization, predict

# Bytes of the arena at once: a batch runs in chunks of images that need no more. All maps of a
# chunk then stay in a cache of the second or third level, and memory does not grow with the batch.
CHUNK_BYTES = 8 << 20


FLOAT32 = np.dtype(np.float32)


class Lowering:
    """What `Layer.lower` adds its step to: `net.add_...(x, y, ...)`, with numbers of values.

    x, y: the numbers of the values that it reads and gives; shapes: those of x for one image.
    """

    def __init__(self, net: Any, step: Step, number: dict[int, int]) -> None:
        """For one step."""
        self.net, self._step = net, step
        self.x = [number[id(v)] for v in step.inputs]
        self.y = [number[id(v)] for v in step.outputs]
        self.shapes = [(1, *v.full_shape[1:]) for v in step.inputs]

    def python(self) -> None:
        """A step that calls the layer's `compute`, for layers without a C++ step."""
        operation = self._step.operation

        def run(xs: list[Array], ys: list[Array]) -> None:
            shapes = tuple(x.shape for x in xs)
            kept = [
                np.empty([len(xs[0]) if n is None else n for n in shape], dtype or np.float32)
                for shape, dtype in operation.keeps(shapes[0] if len(xs) == 1 else shapes)
            ]
            operation.compute(
                xs[0] if len(xs) == 1 else tuple(xs), ys[0] if len(ys) == 1 else tuple(ys), *kept
            )

        results = [v.full_shape[1:] for v in self._step.outputs]
        self.net.add_python(run, self.x, self.y, [s[1:] for s in self.shapes], results)


class CompiledModel:
    """The function of a model in eval mode, with the weights of the moment it was made.

    `compiled(x)` gives what `model.eval()(x)` gave then: x float32 of the compiled input shape, any
    N; returns a new array. Like `model(x)` it does not normalise: `compiled.predict(images)` does,
    and takes bytes. Later changes of the model do not reach it: compile again. With several inputs
    or outputs they are arguments and a tuple.

    Several threads may call one CompiledModel at once, and forked processes too. The batch runs in
    chunks, so that memory (`bytes_per_image`) does not grow with it. It can be copied and pickled.
    """

    def __init__(self, model: Any, shapes: Sequence[Shape]) -> None:
        """Copy the weights of `model`; use `Layer.compile_inference` to get one."""
        self._model = copy.deepcopy(model).eval()
        self._shapes = [tuple(shape) for shape in shapes]
        self._build()

    def _build(self) -> None:
        program = self._model.program(*self._shapes)
        plan = Plan(program, np.float32, "compiled", getattr(self._model, "_fusing", True))
        self.bytes_per_image = plan.bytes
        self._input = [tuple(x.full_shape[1:]) for x in program.inputs]
        self._output = [tuple(y.full_shape[1:]) for y in program.outputs]
        single = len(self._input) == len(self._output) == 1
        self._plain = self._input[0] if single else None
        self._net = _lowered(program, plan)

    @property
    def normalization(self) -> Normalization:
        """What `predict` applies to images: that of the model."""
        return getattr(self._model, "normalization", Normalization())

    @property
    def input_shape(self) -> Any:
        """(None, ...): None stands for any batch size; with several inputs a tuple of shapes."""
        return _each(self._input)

    @property
    def output_shape(self) -> Any:
        """(None, ...): None stands for any batch size; with several outputs a tuple of shapes."""
        return _each(self._output)

    def __call__(self, *xs: Array) -> Any:
        """Compute y. Raises TypeError or ValueError for another type or shape of x."""
        if len(xs) == 1 and self._is_plain(xs[0]):  # what nearly every call is
            return self._net.run_one(xs[0], (len(xs[0]), *self._output[0]))
        if len(xs) != len(self._input):
            raise TypeError(
                f"CompiledModel: got {len(xs)} arrays; expected {len(self._input)}, one for each "
                "input."
            )
        arrays = [self._checked(i, x) for i, x in enumerate(xs)]
        N = len(arrays[0])
        if any(len(x) != N for x in arrays):
            raise ValueError(
                f"CompiledModel: the inputs have {[len(x) for x in arrays]} images; expected the "
                "same N in all."
            )
        ys = self._net.run(arrays, [(N, *shape) for shape in self._output])
        return ys[0] if len(ys) == 1 else tuple(ys)

    def _is_plain(self, x: Any) -> bool:
        """Whether x is the one input of one output, as C++ takes it."""
        right = type(x) is np.ndarray and x.dtype is FLOAT32 and x.shape[1:] == self._plain
        return right and x.flags.carray  # in order, aligned; what is read-only takes the long way

    def _checked(self, i: int, x: Any) -> Array:
        name, expected = "x" if len(self._input) == 1 else f"x {i}", self._input[i]
        if not isinstance(x, np.ndarray) or x.dtype != np.float32:
            found = x.dtype if isinstance(x, np.ndarray) else kind_of(x)
            how = to_write(x, name)
            if isinstance(x, np.ndarray) and x.dtype == np.uint8:
                how = ": images of bytes are for predict(images), which normalises them."
            raise TypeError(f"CompiledModel: {name} is {found}; expected a float32 array{how}")
        if x.ndim == 0 or x.shape[1:] != expected:
            axes = ", ".join(str(extent) for extent in ("N", *expected))
            nchw = x.ndim == 4 and (*x.shape[2:], x.shape[1]) == expected
            raise ValueError(
                f"CompiledModel: {name} has shape {x.shape}; expected [{axes}]"
                + (": for [N, C, H, W] write x.transpose(0, 2, 3, 1)." if nchw else ".")
            )
        if not (x.flags.c_contiguous and x.flags.aligned):
            return np.require(x, requirements=["C", "A"])
        array: Array = x
        return array

    def predict(self, images: Array, *, batch_size: int = 500) -> Any:
        """What the network gives for images as they are: uint8, or float32 in 0 .. 1.

        They are normalised as the model was trained (`normalization`). As `Module.predict`.
        """
        return predict("CompiledModel.predict", self, self.normalization, images, batch_size)

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: the frozen model; its steps are made anew."""
        return {"model": self._model, "shapes": self._shapes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the steps."""
        self._model, self._shapes = state["model"], state["shapes"]
        self._build()

    def __repr__(self) -> str:
        """The shapes."""
        return f"CompiledModel({self.input_shape} -> {self.output_shape})"


def _each(shapes: list[Shape]) -> Any:
    with_N = tuple((None, *shape) for shape in shapes)
    return with_N[0] if len(with_N) == 1 else with_N


def _lowered(program: Program, plan: Plan) -> Any:
    """The steps of a plan in C++; values that are views of each other are one value there."""
    number: dict[int, int] = {}
    floats: list[int] = []
    offsets: list[int] = []

    def new(value: Value, offset: int) -> int:
        floats.append(size(value.full_shape))
        offsets.append(offset)
        return len(floats) - 1

    for x in program.inputs:
        number[id(x)] = new(x, -1)
    given: set[int] = set()  # outputs that lie in an array of the user
    outputs: dict[int, int] = {}
    for step in plan.steps:
        for y in step.outputs:
            if is_view(step):
                number[id(y)] = number[id(step.inputs[0])]
                continue
            place = plan.values[id(y)]
            if place.where == "y" and place.index in given:  # in place: two values, one array
                number[id(y)] = outputs[place.index]
                continue
            in_arena = place.where == "arena"
            offset = plan.blocks[place.index].offset // 4 if in_arena else -1
            number[id(y)] = new(y, offset)
            if not in_arena:
                given.add(place.index)
                outputs[place.index] = number[id(y)]
    copies = []
    for j, y in enumerate(program.outputs):
        if j not in outputs:  # an input, or another output once more
            outputs[j] = new(y, -1)
            copies.append((number[id(y)], outputs[j]))
    chunk = max(1, CHUNK_BYTES // max(plan.bytes, 1))
    ends = [outputs[j] for j in range(len(program.outputs))]
    net = _pycnn.Network(floats, offsets, [number[id(x)] for x in program.inputs], ends, chunk)
    for step in plan.steps:
        if not is_view(step):
            step.operation.lower(Lowering(net, step, number))
    for source, target in copies:
        net.add_copy(source, target)
    return net
