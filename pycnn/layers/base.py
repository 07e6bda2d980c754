"""`Layer`: a function of arrays with parameters, and its gradients."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NoReturn, TypeVar, overload

import numpy as np
import numpy.typing as npt

from pycnn.graph.compile import CompiledModel, Lowering
from pycnn.graph.program import Program
from pycnn.graph.values import Shape, Value, label_of
from pycnn.layers import state, summary
from pycnn.layers.parameter import Parameter
from pycnn.layers.running import Runner, changes
from pycnn.layers.slot import CURRENT
from pycnn.ops.arrays import Array

SomeLayer = TypeVar("SomeLayer", bound="Layer")
Keeps = Sequence[tuple[Sequence[int | None], npt.DTypeLike | None]]


class Layer:
    """A function y = f(x) with parameters, and its gradient.

    `forward(x)`, or a call, computes y. In training mode (the default) it also keeps what
    `backward(dy)` needs, once: backward adds to `Parameter.grad` and returns dx. In eval mode
    forward keeps nothing and backward is refused. Arrays are float32 or float64, of the type of the
    layer's parameters (`astype`); a wrong type, shape or order of calls is a TypeError, ValueError
    or RuntimeError that names the layer. Called with a `Value` of a network that is being traced,
    a layer adds itself to the network.

    What forward and backward return is new memory, except where a layer only gives a view of its
    input (`Flatten`, `Dropout` in eval mode). Inside, memory is kept from step to step; it grows to
    the largest batch seen, and copies and pickles leave it behind. Until backward a layer keeps a
    reference to x (to a copy, if x is not C-contiguous): changing x in between changes the
    gradient.

    In training mode a layer works for one thread at a time: a call during another thread's call,
    and a backward in another thread than its forward, is a RuntimeError. Give each thread a
    `copy.deepcopy`. In eval mode several threads may call forward at once.

    To write a layer, define `infer_shape`, `compute` and `gradients`
    (docs/write_a_layer.md has a complete one). A layer keeps no arrays of a call: one layer may
    stand in several places of a network, and in several networks.
    """

    # What `gradients` reads of the forward: "x", "y", "xy", or "" for neither; these are kept.
    reads = "x"
    # The inputs in whose memory `compute` may write y, and the input whose dx may lie in dy.
    in_place: Sequence[int] = ()
    gradient_in_place: int | None = None
    # How many arrays compute gives.
    results = 1
    training = True
    bias: Parameter | None = None
    # Attributes that are arrays of the state beside the parameters.
    _buffer_names: tuple[str, ...] = ()
    _planned = False  # whether a plan depends on the attributes
    _runner: Runner | None = None

    # ---- what a kind of layer defines ------------------------------------------------------

    def infer_shape(self, x: Any) -> Any:
        """The shape of y for an x of this shape, N included; `refuse` says what is wrong with x.

        With several inputs x is a tuple of shapes; with several results a tuple of shapes.
        """
        raise NotImplementedError(f"{type(self).__name__} must define infer_shape.")

    def compute(self, *arrays: Any, **_: Any) -> Any:
        """Write y to `out`; called with (x, out, *kept). Returns what `gradients` gets as `saved`.

        x, out: arrays, or tuples where there are several inputs or results. kept: arrays of
        `keeps`, to be filled; they are `saved` where compute returns None.
        """
        raise NotImplementedError(f"{type(self).__name__} must define compute.")

    def gradients(self, dy: Any, dx: Any, x: Any, y: Any, saved: Any) -> None:
        """Add to the parameters' gradients (`Parameter.add_gradient`) and fill dx.

        dx is None where nobody wants it (with several inputs, an entry of the tuple). x and y are
        None unless `reads` names them.
        """
        raise NotImplementedError(f"{type(self).__name__} must define gradients.")

    def keeps(self, x: Any) -> Keeps:
        """(shape, dtype) of arrays that compute fills for gradients.

        None stands for N in a shape, and as dtype for the layer's own type of numbers.
        """
        return ()

    def is_view(self) -> bool:
        """Whether y is x in another shape, and dx dy; then compute and gradients are not called."""
        return self.is_identity()

    def is_identity(self) -> bool:
        """Whether y is x, as of a Dropout in eval mode: plans leave the layer out."""
        return False

    def flop_per_image(self, input_shape: tuple[int | None, ...]) -> int:
        """Multiplications and additions in one image's forward, of convolutions and products."""
        return 0

    def notes(self, x: Any) -> str:
        """What a plan says of the layer; x: its input's shape, or None if it is not known."""
        return "a view" if self.is_view() else ""

    def lower(self, to: Lowering) -> None:
        """Add the step of eval mode to a network that is being compiled.

        By default a step that calls `compute`; layers of pycnn add steps of C++.
        """
        to.python()

    # ---- what users call ---------------------------------------------------------------------

    def __call__(self, *xs: Any) -> Any:
        """Compute y = f(x): the same as `forward`; with Values of a network, add it there."""
        if any(isinstance(x, Value) for x in xs):
            trace = next(x.trace for x in xs if isinstance(x, Value))
            return trace.call(self, xs)
        return self._running.forward(xs)

    def forward(self, *xs: Any) -> Any:
        """Compute y = f(x)."""
        return self(*xs)

    @overload
    def backward(self, *dy: Array, input_gradient: Literal[True] = ...) -> Any: ...
    @overload
    def backward(self, *dy: Array, input_gradient: Literal[False]) -> None: ...
    @overload
    def backward(self, *dy: Array, input_gradient: bool) -> Any: ...
    def backward(self, *dy: Array, input_gradient: bool = True) -> Any:
        """Add to the gradients of the parameters and return dx, the gradient of the last x.

        dy: the gradient of the loss with respect to the last y; one for each output. Once for each
        forward in training mode. A parameter that forward did not use gets a gradient of zeros.
        With `input_gradient=False` dx is not computed, and None is returned; with several inputs
        dx is a tuple.
        """
        return self._running.backward(dy, input_gradient)

    @property
    def _running(self) -> Runner:
        slot = CURRENT.get()
        if slot is not None and slot.synchronised:
            if id(self) not in slot.runners:
                slot.runners[id(self)] = Runner(self, fusing=False)
            return slot.runners[id(self)]  # type: ignore[no-any-return]
        if self._runner is None:
            self._runner = Runner(self)
        return self._runner

    def output_shape(self, *input_shape: tuple[int | None, ...]) -> Any:
        """The shape of y for an x of `input_shape`, whose first extent N may be None.

        With several inputs or outputs: a shape each, in order.
        """
        program = self.program(*input_shape)
        ys = [(input_shape[0][0], *y.full_shape[1:]) for y in program.outputs]
        return ys[0] if len(ys) == 1 else tuple(ys)

    def program(self, *input_shape: tuple[int | None, ...] | None) -> Program:
        """What the layer or network does, a call a node, for an x of `input_shape`.

        input_shape: for example `(None, 28, 28, 1)`, one for each input. `print` shows it. None in
        the place of a shape traces without shapes, where no layer and no forward asks for one.
        """
        if not input_shape:
            self.refuse(
                "no input shape; expected one for each input: write (None, 28, 28, 1).", TypeError
            )
        shapes = [s if s is None else summary.one_image(s) for s in input_shape]
        return self._running.program(shapes)

    def plan(self, *input_shape: tuple[int | None, ...]) -> str:
        """What runs on float32, a line a step: its layers, and what one operator computes together.

        With an input_shape, for example `(100, 28, 28, 1)`, also the algorithms of convolutions,
        which may differ for few images and for many; N = None stands for 1. Raises ValueError for a
        shape that a layer refuses, TypeError for one that is none.
        """
        shapes: list[Any] = [summary.one_image(shape) for shape in input_shape] or [None]
        return self._running.plan_text(shapes)

    def summary(self, *input_shape: tuple[int | None, ...]) -> str:
        """A table: each layer's output shape, parameters and forward MFLOP per image, and totals.

        input_shape: of x, for example `(None, 28, 28, 1)`. A multiplication and an addition are two
        operations; padding counts as if it were computed.
        """
        return summary.table(self.program(*input_shape), input_shape, self.parameters())

    def compile_inference(self, *input_shape: tuple[int | None, ...]) -> CompiledModel:
        """The function of this layer in eval mode with today's weights, made for fast calls.

        input_shape: of x, for example `(None, 28, 28, 1)`; N may be any in each call. Weights are
        copied, so training on does not change the result: compile again. A call takes what
        `forward` takes, and does not apply `normalization`; `compiled.predict(images)` does.
        Raises TypeError for a float64 layer.
        """
        shapes = [summary.one_image(shape) for shape in input_shape]
        for name, parameter in self.named_parameters():
            if parameter.data.dtype != np.float32:
                self.refuse(
                    f"compile_inference with {name} of {parameter.data.dtype}; expected float32: "
                    "write model.astype(np.float32).",
                    TypeError,
                )
        return CompiledModel(self, shapes)

    def parameters(self) -> list[Parameter]:
        """All parameters, in the order of the layers, each weight before its bias; each once."""
        named = list(self.named_parameters())
        for name, parameter in named:
            parameter.name = name
        return [parameter for _, parameter in named]

    def zero_grad(self) -> None:
        """Mark all gradients as empty."""
        for _, parameter in self.named_parameters():
            parameter.zero_grad()

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters by name, for example `"0.weight"`, then of all buffers.

        Buffers are what training changes beside parameters, as `"1.running_mean"`.
        """
        return {name: array.copy() for name, array in self.named_arrays()}

    def load_state_dict(self, d: Mapping[str, Array]) -> None:
        """Copy all parameters and buffers from `d`, with exactly their names, shapes and types.

        Raises ValueError that tells all that is missing, unexpected or of another shape or type, or
        of a negative variance; then nothing has changed.
        """
        targets = dict(self.named_arrays())
        variances = [name for name in targets if name.rpartition(".")[2] == "running_var"]
        label = label_of("", self)
        state.load(f"{label}.load_state_dict", targets, d, not_negative=variances)

    def rng_state(self) -> dict[str, list[int]]:
        """Where each layer that draws stands, by name: `{"7": [seed, calls]}` for a Dropout."""
        return {name: layer.own_rng_state() for name, layer in self._drawing_layers()}

    def load_rng_state(self, d: Mapping[str, list[int]]) -> None:
        """Go on drawing from `rng_state()` of a model of the same layers.

        Raises TypeError for something that is no dict, ValueError for other names or numbers than
        the layers have; then nothing has changed.
        """
        label = label_of("", self)
        state.load_rng(f"{label}.load_rng_state", dict(self._drawing_layers()), d)

    def train(self: SomeLayer, mode: bool = True) -> SomeLayer:
        """Switch to training mode (or with `mode=False` to eval mode), with all layers inside."""
        for _, layer in self.named_layers():
            if layer.training is not bool(mode):
                layer.training = bool(mode)
        return self

    def eval(self: SomeLayer) -> SomeLayer:
        """Switch to eval mode, with all layers inside; returns the layer."""
        return self.train(False)

    def astype(self: SomeLayer, dtype: npt.DTypeLike) -> SomeLayer:
        """Convert parameters and buffers to float32 or float64; gradients become empty.

        Returns the layer. float64 runs plain loops: it is there to check gradients. Make the
        optimizer afterwards.
        """
        if np.dtype(dtype) not in (np.float32, np.float64):
            self.refuse(f"astype to {np.dtype(dtype)}; expected float32 or float64.", TypeError)
        for _, parameter in self.named_parameters():
            parameter.astype(dtype)
        for _, layer in self.named_layers():
            for name in layer._buffer_names:
                setattr(layer, name, getattr(layer, name).astype(dtype))
            layer._runner = None
        changes.changed()
        return self

    # ---- names -------------------------------------------------------------------------------

    def children(self) -> Mapping[str, Layer]:
        """The layers right inside, by name."""
        return {}

    def named_layers(self) -> Iterator[tuple[str, Layer]]:
        """(path, layer) of this layer ("") and all layers inside, outermost first, each once."""
        seen: set[int] = set()
        waiting: list[tuple[str, Layer]] = [("", self)]
        while waiting:
            path, layer = waiting.pop()
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            yield path, layer
            inside = [(join(path, name), child) for name, child in layer.children().items()]
            waiting += reversed(inside)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(path, parameter), in the order of the layers, each once."""
        seen: set[int] = set()
        for path, layer in self.named_layers():
            for name, value in vars(layer).items():
                if isinstance(value, Parameter) and id(value) not in seen:
                    seen.add(id(value))
                    yield join(path, name), value

    def named_buffers(self) -> Iterator[tuple[str, Array]]:
        """(path, array) of what training changes beside the parameters."""
        for path, layer in self.named_layers():
            for name in layer._buffer_names:
                yield join(path, name), getattr(layer, name)

    def named_arrays(self) -> Iterator[tuple[str, Array]]:
        """The whole state: parameters, then buffers."""
        for name, parameter in self.named_parameters():
            yield name, parameter.data
        yield from self.named_buffers()

    def own_rng_state(self) -> list[int]:
        """[seed, calls] of a layer that draws, [] of others."""
        return []

    def load_own_rng_state(self, state: list[int]) -> None:
        """Take over what `own_rng_state` gave."""

    def _drawing_layers(self) -> Iterator[tuple[str, Layer]]:
        return ((path, layer) for path, layer in self.named_layers() if layer.own_rng_state())

    # ---- sentences -----------------------------------------------------------------------------

    def refuse(self, message: str, error: type[Exception] = ValueError) -> NoReturn:
        """Raise an error whose sentence begins with the layer's path, where it is known."""
        refusal = error(f"{label_of('', self)}: {message}")
        refusal.refused = message  # type: ignore[attr-defined]
        raise refusal from None

    def expect_axes(self, x: Shape, axes: str, advice: str) -> None:
        """Refuse an x with another number of axes than `axes` has, for example "[N, H, W, C]"."""
        rank = axes.count(",") + 1
        if len(x) != rank:
            self.refuse(f"x has shape {x}, {len(x)} axes; expected {rank}: {axes}: {advice}.")

    def expect_channels(self, x: Shape, expected: int, name: str) -> None:
        """Refuse an x [N, H, W, C] with other channels than the argument `name` of the layer."""
        self.expect_axes(x, "[N, H, W, C]", "write x[None] for one image, x[..., None] for C = 1")
        if x[3] != expected:
            self.refuse(
                f"x has shape {x}, C = {x[3]} channels in [N, H, W, C]; "
                f"expected {name} = {expected}"
                + (": for [N, C, H, W] write x.transpose(0, 2, 3, 1)." if x[1] == expected else ".")
            )

    # ---- Python ----------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        """Set it; plans that depend on the layer are made anew."""
        object.__setattr__(self, name, value)
        if self._planned and name[:1] != "_":
            changes.note(self, name)

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: not the memory, not the last forward."""
        left_out = ("_runner", "_planned")
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start with no memory, as a new layer does."""
        vars(self).update(state)

    def __deepcopy__(self: SomeLayer, memo: dict[int, Any]) -> SomeLayer:
        """A layer of its own, without the memory."""
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        vars(twin).update(copy.deepcopy(self.__getstate__(), memo))
        return twin

    def _arguments(self) -> str:
        """What stands between the brackets of `repr`."""
        return ""

    def __repr__(self) -> str:
        """The layer as one writes it."""
        return f"{type(self).__name__}({self._arguments()})"


def join(path: str, name: str) -> str:
    """The path of what `name` is inside `path`."""
    return f"{path}.{name}" if path else name
