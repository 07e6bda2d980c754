"""Networks: layers made of layers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy.typing as npt

from pycnn._formats import names
from pycnn.graph.values import Value
from pycnn.layers import summary
from pycnn.layers.base import Layer
from pycnn.layers.running import changes
from pycnn.preprocessing import Normalization, predict

SomeModule = TypeVar("SomeModule", bound="Module")


class Module(Layer):
    """A network: a layer whose `forward` is ordinary Python over layers and + - * /.

        class Basic(layers.Module):  # the block of ResNet-18 and -34, He et al. 2015
            def __init__(self, C, OC, stride, rng):
                super().__init__()
                self.conv1 = layers.Conv2d(C, OC, 3, stride, padding=1, bias=False, rng=rng)
                self.norm1 = layers.BatchNorm2d(OC)
                self.conv2 = layers.Conv2d(OC, OC, 3, padding=1, bias=False, rng=rng)
                self.norm2 = layers.BatchNorm2d(OC)
                self.shortcut = None
                if stride != 1 or C != OC:
                    self.shortcut = layers.Sequential(
                        layers.Conv2d(C, OC, 1, stride, bias=False, rng=rng), layers.BatchNorm2d(OC)
                    )

            def forward(self, x):
                y = layers.relu(self.norm1(self.conv1(x)))
                y = self.norm2(self.conv2(y))
                return layers.relu(y + (self.shortcut(x) if self.shortcut else x))

    `forward` takes one or several values and returns one, or a tuple. It is traced: it runs once
    for each shape and mode with `Value`s, which have a shape but no numbers, and what it has called
    is the network's program (`program(input_shape)` prints it). Python's branches and loops on
    shapes, arguments and `self.training` are fine; what needs numbers is a TypeError that says what
    to write instead.

    Layers are found in attributes, and in lists, tuples and dicts of them; names of parameters are
    paths of attributes, "layer1.0.conv1.weight", as PyTorch's are. A layer that is called twice
    shares its weights, and their gradients add up. Assigning a layer, or changing such a list,
    traces anew.

    `normalization` says what images need before the first layer, `input_shape` the (H, W, C) or
    (features,) of one of them where it is known, `class_names` what the outputs are called: a
    trainer sets them, files and predictions keep them, `predict(images)` normalises, forward uses
    none.
    """

    _normalization = Normalization()
    _input_shape: tuple[int, ...] | None = None
    _class_names: tuple[str, ...] | None = None
    _fusing = True

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Let `forward` trace with values, and run with arrays."""
        super().__init_subclass__(**keywords)
        if "forward" in vars(cls):
            cls.forward = _traced(vars(cls)["forward"])  # type: ignore[method-assign]

    def trace_forward(self, *xs: Value) -> Any:
        """What forward does with values."""
        if type(self).forward is Module.forward:
            raise NotImplementedError(f"{type(self).__name__} must define forward(self, x).")
        return type(self).forward(self, *xs)

    def infer_shape(self, x: Any) -> Any:
        """By tracing."""
        shapes = x if isinstance(x[0], tuple) else (x,)
        ys = tuple(y.full_shape for y in self._running.program(shapes).outputs)
        return ys[0] if self.results == 1 else ys

    @property
    def normalization(self) -> Normalization:
        """(image - mean) / std before the first layer, of images in 0 .. 1; at first the identity.

        Assigning anything but a Normalization is a TypeError.
        """
        return self._normalization

    @normalization.setter
    def normalization(self, value: Normalization) -> None:
        if not isinstance(value, Normalization):
            self.refuse(
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
                self.refuse(
                    f"input_shape is {value!r}; expected that of one image, for example "
                    "(28, 28, 1), or None.",
                    TypeError,
                )
            self.program((1, *value))  # refuses in the name of the layer
        self._input_shape = value

    @property
    def last_input_shapes(self) -> tuple[tuple[int, ...], ...] | None:
        """Of the last forward's inputs, with N = 1; None before the first one."""
        return None if self._runner is None else self._runner.last_shapes

    def predict(self, images: npt.NDArray[Any], *, batch_size: int = 500) -> Any:
        """What the network gives in eval mode for images as they are, for example logits [n, K].

        images: uint8 (0 to 255), or float32 in 0 .. 1, [n, ...]; they are normalised as the model
        was trained (`normalization`) and run batch_size at a time, so any number fits into memory.
        The class of each is `model.predict(images).argmax(axis=1)`, the probabilities
        `ops.softmax(model.predict(images))`. The mode of the model does not change; several threads
        may predict at once with a model in eval mode. A network of several outputs gives a tuple.

        Raises TypeError for other images, ValueError for bytes that were cast to float32, and for a
        shape that a layer refuses.
        """
        label = f"{type(self).__name__}.predict"
        return predict(label, self._running.infer, self.normalization, images, batch_size)

    def flop_per_image(self, input_shape: tuple[int | None, ...]) -> int:
        """The sum over the calls."""
        return sum(row.flop for row in summary.rows(self.program(input_shape)))

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
        classes = None if image is None else self.output_shape((1, *image))[-1]
        try:
            self._class_names = names.class_names(value, classes)
        except (TypeError, ValueError) as error:
            self.refuse(str(error), type(error))

    def fuse(self: SomeModule, on: bool = True) -> SomeModule:
        """Run what one operator computes as one, or with `on=False` every layer by itself.

        Holds for all modules inside as well; returns the module.
        """
        for _, layer in self.named_layers():
            if isinstance(layer, Module):
                layer._fusing = bool(on)
        changes.changed()
        return self

    def children(self) -> Mapping[str, Layer]:
        """The layers in attributes, lists, tuples and dicts, by name."""
        return dict(_layers_in(vars(self)))

    def __repr__(self) -> str:
        """One layer a line, with its name."""
        lines = (f"({name}): {layer!r}" for name, layer in self.children().items())
        inner = "\n".join(lines).replace("\n", "\n  ")
        return f"{type(self).__name__}(\n  {inner}\n)"


def _traced(forward: Callable[..., Any]) -> Callable[..., Any]:
    """`forward` as the user has written it for values, the network's plan for arrays."""

    @functools.wraps(forward)
    def run(self: Module, *xs: Any, **options: Any) -> Any:
        if xs and isinstance(xs[0], Value):
            return forward(self, *xs, **options)
        if options:
            self.refuse(
                f"forward with {', '.join(options)}=...; expected the inputs by position: options "
                "belong in __init__.",
                TypeError,
            )
        return self._running.forward(xs)

    return run


def _layers_in(held: Mapping[str, Any]) -> Iterator[tuple[str, Layer]]:
    """The layers of a dict and of the lists, tuples and dicts in it, by path."""
    for name, value in held.items():
        if isinstance(value, Layer):
            yield str(name), value
        elif isinstance(value, (list, tuple)):
            yield from _inside(str(name), dict(enumerate(value)))
        elif isinstance(value, dict) and not isinstance(name, int):
            yield from _inside(str(name), value)


def _inside(name: str, held: Mapping[Any, Any]) -> Iterator[tuple[str, Layer]]:
    for inner, layer in _layers_in({str(key): value for key, value in held.items()}):
        yield f"{name}.{inner}", layer
