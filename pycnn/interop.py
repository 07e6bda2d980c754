"""Weights to and from PyTorch, without PyTorch: names, layouts and the order of Flatten.

The arrays are those of a `torch.nn.Sequential` of the same layers in the same places, or of a
module with the same attributes; `pycnn.models` have torchvision's:

    pycnn                                     PyTorch
    Conv2d.weight [KH, KW, C/g, OC]           [OC, C/g, KH, KW]; other convolutions alike
    Linear.weight [in, out]                   [out, in]
      after a Flatten of [H, W, C]              its `in` in the order of a flattened [C, H, W]
    LayerNorm, GroupNorm                      the same arrays
    BatchNorm1d, BatchNorm2d                  the same four arrays, and num_batches_tracked

What has no numbers needs no array, but must be in its place, so that the numbers of the layers
agree: `nn.ReLU()`, `nn.MaxPool2d(2)`, `nn.Flatten()`, `nn.Dropout(p)`; for GlobalAvgPool2d
`nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())`. PyTorch's images are [N, C, H, W]:
`x.transpose(0, 3, 1, 2)`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pycnn._formats import layout
from pycnn._formats.files import FilePath, read_safetensors
from pycnn.layers import state
from pycnn.layers.base import Layer
from pycnn.layers.conv import Convolution
from pycnn.layers.linear import Linear
from pycnn.layers.module import Module
from pycnn.layers.norm import BatchNorm
from pycnn.layers.row_norm import GroupNorm, LayerNorm
from pycnn.ops.arrays import Array, kind_of

COUNTER = "num_batches_tracked"  # of PyTorch's BatchNorm2d; pycnn has no use for it
SAME_ARRAYS = ("weight", "bias", "running_mean", "running_var")  # of BatchNorm2d


def to_torch_state_dict(
    model: Module, *, input_shape: tuple[int | None, ...] | None = None
) -> dict[str, Array]:
    """The model's arrays under PyTorch's names and in its layout, in new memory.

    input_shape: (None, H, W, C) of the images; only needed if a Linear follows a Flatten, no
    Conv2d or BatchNorm2d comes before it, and `model.input_shape` is None. num_batches_tracked is
    0. With safetensors: `safetensors.numpy.save_file(to_torch_state_dict(model), path)`.

    Raises TypeError for what is no Sequential and for a kind of layer with arrays that PyTorch does
    not have; ValueError for a missing or wrong input_shape.
    """
    views = _views("to_torch_state_dict", model, input_shape)
    return {name: view.copy().reshape(shape) for name, view, shape in views}


def load_torch_state_dict(
    model: Module,
    tensors: Mapping[str, Any] | FilePath,
    *,
    input_shape: tuple[int | None, ...] | None = None,
) -> None:
    """Copy all arrays of a PyTorch state_dict into a model of the same layers.

        model = models.resnet18()
        interop.load_torch_state_dict(model, "resnet18.safetensors")

    tensors: NumPy arrays or PyTorch's tensors of the model's type by PyTorch's names, such as
    `net.state_dict()`, or the path of a safetensors file of them. num_batches_tracked is ignored,
    and so is what a network of `pycnn.models` does without, GoogLeNet's auxiliary classifiers.
    input_shape: as in `to_torch_state_dict`.

    Raises ValueError that tells all that is missing, unexpected, or of another shape or type (in
    PyTorch's layout); then nothing has changed. FileError for what is no safetensors file, else as
    `to_torch_state_dict`.
    """
    who = "load_torch_state_dict"
    views = {name: (view, shape) for name, view, shape in _views(who, model, input_shape)}
    if isinstance(tensors, (str, os.PathLike)):
        tensors, _ = read_safetensors(tensors)
    if isinstance(tensors, Mapping):
        left_out = tuple(getattr(model, "torch_left_out", ()))
        counters = {name for name in views if name.rpartition(".")[2] == COUNTER}
        views = {name: view for name, view in views.items() if name not in counters}
        tensors = {
            name: _array(who, name, tensor)
            for name, tensor in tensors.items()
            if name not in counters and not name.startswith(left_out or "\0")
        }
    targets = {name: _like(view, shape) for name, (view, shape) in views.items()}
    state.check(who, targets, tensors, [n for n in views if n.endswith(".running_var")])
    for name, (view, _) in views.items():
        view[...] = tensors[name].reshape(view.shape)


def _array(who: str, name: str, tensor: Any) -> Any:
    """A tensor of PyTorch as an array that shares its memory; anything else as it is."""
    if isinstance(tensor, np.ndarray) or not hasattr(tensor, "detach"):
        return tensor
    try:
        return tensor.detach().cpu().numpy()
    except TypeError as error:  # of bfloat16, which NumPy does not have
        raise TypeError(
            f"{who}: {name!r} is {tensor.dtype}; expected float32: write net.float().state_dict(). "
            "Nothing was loaded."
        ) from error


def _like(view: Array, shape: tuple[int, ...]) -> Array:
    """An array of this shape and of the view's type that takes no memory."""
    return np.broadcast_to(np.zeros((), view.dtype), shape)


def _by_name(who: str, model: Module, input_shape: tuple[int | None, ...] | None) -> dict[str, int]:
    """The channels of `layout.linear_channels`, by the names of the layers."""
    if not isinstance(model, Module):
        raise TypeError(f"{who}: model is {kind_of(model)}; expected a Sequential or a Module.")
    image = (
        input_shape if input_shape is not None else model.input_shape and (1, *model.input_shape)
    )
    if image is not None:
        program = model.program(tuple(image))
    elif model.last_input_shapes is not None:
        program = model.program(*model.last_input_shapes)
    else:
        program = model.program(None)
    channels = layout.linear_channels(who, program)
    return {node.name: channels[id(node)] for node in program.nodes if id(node) in channels}


def _leaves(model: Module) -> Iterator[tuple[str, Layer]]:
    """The layers that hold no others, with the names that their arrays begin with."""
    return ((n, layer) for n, layer in model.named_layers() if not isinstance(layer, Module))


def _views(
    who: str, model: Module, input_shape: tuple[int | None, ...] | None
) -> Iterator[tuple[str, Array, tuple[int, ...]]]:
    """(name, array, shape in PyTorch) in PyTorch's order.

    The array is a view of the model's with its numbers in PyTorch's order, if perhaps with more
    axes; counters are zeros.
    """
    channels, arrays = _by_name(who, model, input_shape), dict(model.named_arrays())
    for name, layer in _leaves(model):
        keys = _keys(who, name, layer)
        for key in keys:
            array = arrays[f"{name}.{key}"]
            # [KH, KW, C / groups, OC] -> [OC, C / groups, KH, KW], [in, out] -> [out, in]
            turned = array.transpose(*range(array.ndim)[:-3:-1], *range(array.ndim - 2))
            view = turned
            if key == "weight" and name in channels:
                view = array.reshape(-1, channels[name], array.shape[1]).transpose(2, 1, 0)
            yield f"{name}.{key}", view, turned.shape
        if "running_mean" in keys:
            yield f"{name}.{COUNTER}", np.zeros((), np.int64), ()


def _keys(who: str, name: str, layer: Layer) -> tuple[str, ...]:
    """The arrays of a layer, by their names in it."""
    keys = tuple(layer.state_dict())
    known = isinstance(layer, (Convolution, Linear, LayerNorm, GroupNorm)) or (
        isinstance(layer, BatchNorm) and set(keys) == set(SAME_ARRAYS)
    )
    if keys and not known:
        raise TypeError(
            f"{who}: layer {name} is a {type(layer).__name__}, whose arrays have no counterpart in "
            "PyTorch; expected convolutions, Linear, norms, and layers without arrays."
        )
    return keys
