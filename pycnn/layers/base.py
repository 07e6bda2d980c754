"""`Layer`: the public face that all layers share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar, overload

import numpy as np
import numpy.typing as npt

from pycnn.inference import Builder, CompiledModel
from pycnn.layers import state, summary
from pycnn.layers.memory import Place
from pycnn.layers.parameter import Parameter
from pycnn.layers.run import Runnable, Shape
from pycnn.ops.arrays import Array

SomeLayer = TypeVar("SomeLayer", bound="Layer")
TRANSIENT = ("_lock", "_buffers", "_shapes", "_saved", "_reason")


class Layer(Runnable):
    """A function y = f(x) with parameters, and its gradient.

    `forward(x)`, or a call, computes y. In training mode (the default) it also keeps what
    `backward(dy)` needs, once: backward adds to `Parameter.grad` and returns dx. In eval mode
    forward keeps nothing and backward is refused. Arrays are float32 or float64, of the type of the
    layer's parameters (`astype`); a wrong type, shape or order of calls is a TypeError, ValueError
    or RuntimeError that names the layer.

    What forward and backward return is new memory, except where a layer only gives a view of its
    input (`Flatten`, `Dropout` in eval mode). Inside a `Sequential` layers write into memory that
    they keep from step to step; it grows to the largest batch seen, and copies and pickles leave it
    behind. Until backward a layer keeps a reference to x (to a copy, if x is not C-contiguous):
    changing x in between changes the gradient.

    A layer works for one thread at a time: a call during another thread's call, and a backward in
    another thread than its forward, is a RuntimeError. Give each thread a `copy.deepcopy`.

    To write a layer, define `_output_shape`, `_forward` and `_backward`; `ReLU` is a short example.
    """

    bias: Parameter | None = None
    # y and dx are the layer's own memory, its backward never reads y: others may overwrite both.
    _owns_results = False
    # `_forward` and `_backward` accept `Place.IN_PLACE`.
    _works_in_place = False
    # Attributes that are arrays of the state beside the parameters.
    _buffer_names: tuple[str, ...] = ()

    def __init__(self) -> None:
        """Start in training mode, with no memory."""
        self._start()

    def forward(self, x: Array) -> Array:
        """Compute y = f(x)."""
        return self._run_forward(x, Place.FRESH)

    def __call__(self, x: Array) -> Array:
        """Compute y = f(x): the same as `forward`."""
        return self.forward(x)

    @overload
    def backward(self, dy: Array, *, input_gradient: Literal[True] = ...) -> Array: ...
    @overload
    def backward(self, dy: Array, *, input_gradient: Literal[False]) -> None: ...
    @overload
    def backward(self, dy: Array, *, input_gradient: bool) -> Array | None: ...
    def backward(self, dy: Array, *, input_gradient: bool = True) -> Array | None:
        """Add to the gradients of the parameters and return dx, the gradient of the last x.

        dy: the gradient of the loss with respect to the last y. Once for each forward in training
        mode. With `input_gradient=False` dx is not computed, and None is returned.
        """
        return self._run_backward(dy, Place.FRESH if input_gradient else None)

    def output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape of y for an x of `input_shape`, whose first extent N may be None."""
        y = self._output_shape(summary.one_image(input_shape))
        return (input_shape[0], *y[1:])

    def flop_per_image(self, input_shape: tuple[int | None, ...]) -> int:
        """Multiplications and additions in one image's forward, of convolutions and products."""
        return 0

    def summary(self, input_shape: tuple[int | None, ...]) -> str:
        """A table: each layer's output shape, parameters and forward MFLOP per image, and totals.

        input_shape: of x, for example `(None, 28, 28, 1)`. A multiplication and an addition are two
        operations; padding counts as if it were computed.
        """
        return summary.table(self, input_shape)

    def parameters(self) -> list[Parameter]:
        """All parameters, in the order of the layers, each weight before its bias."""
        named = list(self._named_parameters())
        for name, parameter in named:
            parameter.name = name
        return [parameter for _, parameter in named]

    def zero_grad(self) -> None:
        """Mark all gradients as empty."""
        for _, parameter in self._named_parameters():
            parameter.zero_grad()

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters by name, for example `"0.weight"`, then of all buffers.

        Buffers are what training changes beside parameters, as `"1.running_mean"`.
        """
        return {name: array.copy() for name, array in self._named_arrays()}

    def load_state_dict(self, d: Mapping[str, Array]) -> None:
        """Copy all parameters and buffers from `d`, with exactly their names, shapes and types.

        Raises ValueError that tells all that is missing, unexpected or of another shape or type, or
        of a negative variance; then nothing has changed.
        """
        targets = dict(self._named_arrays())
        variances = [name for name in targets if name.rpartition(".")[2] == "running_var"]
        state.load(f"{self._label()}.load_state_dict", targets, d, not_negative=variances)

    def rng_state(self) -> dict[str, list[int]]:
        """Where each layer that draws stands, by name: `{"7": [seed, calls]}` for a Dropout."""
        return {name: layer._own_rng_state() for name, layer in self._drawing_layers()}

    def load_rng_state(self, d: Mapping[str, list[int]]) -> None:
        """Go on drawing from `rng_state()` of a model of the same layers.

        Raises TypeError for something that is no dict, ValueError for other names or numbers than
        the layers have; then nothing has changed.
        """
        state.load_rng(f"{self._label()}.load_rng_state", dict(self._drawing_layers()), d)

    def train(self: SomeLayer) -> SomeLayer:
        """Switch to training mode, with all layers inside; returns the layer."""
        return self._set_training(True)

    def eval(self: SomeLayer) -> SomeLayer:
        """Switch to eval mode, with all layers inside; returns the layer."""
        return self._set_training(False)

    def astype(self: SomeLayer, dtype: npt.DTypeLike) -> SomeLayer:
        """Convert parameters and buffers to float32 or float64; gradients become empty.

        Returns the layer. float64 runs plain loops: it is there to check gradients. Make the
        optimizer afterwards.
        """
        if np.dtype(dtype) not in (np.float32, np.float64):
            self._refuse(f"astype to {np.dtype(dtype)}; expected float32 or float64.", TypeError)
        for _, parameter in self._named_parameters():
            parameter.astype(dtype)
        for layer in self._tree():
            for name in layer._buffer_names:
                setattr(layer, name, getattr(layer, name).astype(dtype))
            layer._start()
        return self

    def compile_inference(self, input_shape: tuple[int | None, ...]) -> CompiledModel:
        """The function of this layer in eval mode with today's weights, made for fast calls.

        input_shape: of x, for example `(None, 28, 28, 1)`; N may be any in each call. Weights are
        copied, so training on does not change the result: compile again. Raises TypeError for a
        float64 layer and for a kind of layer that cannot be compiled.
        """
        x = summary.one_image(input_shape)
        for name, parameter in self._named_parameters():
            if parameter.data.dtype != np.float32:
                self._refuse(
                    f"compile_inference with {name} of {parameter.data.dtype}; expected float32: "
                    "write model.astype(np.float32).",
                    TypeError,
                )
        builder = Builder(x)
        output_shape = self._output_shape(x)
        self._compile(builder, x)
        return CompiledModel(builder, x, output_shape)

    def _compile(self, net: Builder, x: Shape) -> None:
        """Add the steps of eval mode to `net`; x is the shape of one image's input."""
        self._refuse(
            "this kind of layer cannot be compiled: call eval() and forward(x).", TypeError
        )

    @property
    def _owns_gradient(self) -> bool:
        """Whether dx is the layer's own memory: the layer before may overwrite it."""
        return self._owns_results

    @property
    def _gradient_in_place(self) -> bool:
        """Whether `_backward` accepts `Place.IN_PLACE`."""
        return self._works_in_place

    def _is_view(self) -> bool:
        """Whether y is x itself or a view of it, and dx of dy."""
        return False

    def _children(self) -> Mapping[str, Layer]:
        """The layers inside, by name."""
        return {}

    def _tree(self) -> Iterator[Layer]:
        """This layer and all layers inside, outermost first."""
        yield self
        for layer in self._children().values():
            yield from layer._tree()

    def _named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield name, value
        for name, layer in self._children().items():
            for inner, parameter in layer._named_parameters():
                yield f"{name}.{inner}", parameter

    def _named_buffers(self) -> Iterator[tuple[str, Array]]:
        for name in self._buffer_names:
            yield name, getattr(self, name)
        for name, layer in self._children().items():
            for inner, array in layer._named_buffers():
                yield f"{name}.{inner}", array

    def _named_arrays(self) -> Iterator[tuple[str, Array]]:
        """The whole state: parameters, then buffers."""
        for name, parameter in self._named_parameters():
            yield name, parameter.data
        yield from self._named_buffers()

    def _own_rng_state(self) -> list[int]:
        """[seed, calls] of a layer that draws, [] of others."""
        return []

    def _load_own_rng_state(self, state: list[int]) -> None:
        pass

    def _drawing_layers(self) -> Iterator[tuple[str, Layer]]:
        if self._own_rng_state():
            yield "", self
        for name, layer in self._children().items():
            for inner, drawing in layer._drawing_layers():
                yield f"{name}.{inner}" if inner else name, drawing

    def _set_training(self: SomeLayer, training: bool) -> SomeLayer:
        for layer in self._tree():
            layer.training = training
        return self

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: not the memory, not the last forward."""
        return {name: value for name, value in vars(self).items() if name not in TRANSIENT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start with no memory, as a new layer does."""
        vars(self).update(state)
        self._start()

    def _arguments(self) -> str:
        """What stands between the brackets of `repr`."""
        return ""

    def __repr__(self) -> str:
        """The layer as one writes it."""
        return f"{type(self).__name__}({self._arguments()})"
