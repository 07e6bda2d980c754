"""Weights to and from PyTorch, without PyTorch: names, layouts and the order of Flatten.

The arrays are those of a `torch.nn.Sequential` of the same layers in the same places:

    pycnn                              PyTorch
    Conv2d.weight [KH, KW, C/g, OC]    [OC, C/g, KH, KW]
    Linear.weight [in, out]            [out, in]
      after a Flatten of [H, W, C]       its `in` in the order of a flattened [C, H, W]
    LayerNorm, GroupNorm               the same arrays
    BatchNorm1d, BatchNorm2d           the same four arrays, and num_batches_tracked

What has no numbers needs no array, but must be in its place, so that the numbers of the layers
agree: `nn.ReLU()`, `nn.MaxPool2d(2)`, `nn.Flatten()`, `nn.Dropout(p)`; for GlobalAvgPool2d
`nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())`. PyTorch's images are [N, C, H, W]:
`x.transpose(0, 3, 1, 2)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pycnn._formats import layout
from pycnn.layers import state
from pycnn.layers.base import Layer
from pycnn.layers.conv import Conv2d
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
    return dict(_to_torch("to_torch_state_dict", model, input_shape))


def load_torch_state_dict(
    model: Module,
    d: Mapping[str, Array],
    *,
    input_shape: tuple[int | None, ...] | None = None,
) -> None:
    """Copy all arrays of a PyTorch state_dict into a model of the same layers.

    d: NumPy arrays of the model's type by PyTorch's names, for example from
    `safetensors.numpy.load_file(path)`, or `{k: v.numpy() for k, v in net.state_dict().items()}`.
    num_batches_tracked is ignored. input_shape: as in `to_torch_state_dict`.

    Raises ValueError that tells all that is missing, unexpected, or of another shape or type (in
    PyTorch's layout), TypeError for PyTorch's tensors; then nothing has changed. Else as
    `to_torch_state_dict`.
    """
    who = "load_torch_state_dict"
    read = dict(_to_torch(who, model, input_shape))
    if isinstance(d, Mapping):
        if any(type(value).__name__ in ("Tensor", "Parameter") for value in d.values()):
            raise TypeError(
                f"{who}: got PyTorch's tensors; expected NumPy arrays: write "
                "{k: v.numpy() for k, v in net.state_dict().items()}. Nothing was loaded."
            )
        counters = {name for name in read if name.rpartition(".")[2] == COUNTER}
        read = {name: array for name, array in read.items() if name not in counters}
        d = {name: array for name, array in d.items() if name not in counters}
    state.load(who, read, d, [name for name in read if name.endswith(".running_var")])
    model.load_state_dict(dict(_from_torch(who, model, read, input_shape)))


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


def _to_torch(
    who: str, model: Module, input_shape: tuple[int | None, ...] | None
) -> Iterator[tuple[str, Array]]:
    channels, arrays = _by_name(who, model, input_shape), model.state_dict()
    for name, layer in _leaves(model):
        own = {key: arrays[f"{name}.{key}"] for key in _keys(who, name, layer)}
        if isinstance(layer, Conv2d):
            own["weight"] = layout.conv_to_oihw(own["weight"])
        elif isinstance(layer, Linear):
            own["weight"] = layout.linear_to_nchw(own["weight"], channels.get(name))
        elif isinstance(layer, BatchNorm):
            own[COUNTER] = np.zeros((), np.int64)
        for key, array in own.items():
            yield f"{name}.{key}", array


def _from_torch(
    who: str, model: Module, d: Mapping[str, Array], input_shape: Any
) -> Iterator[tuple[str, Array]]:
    channels = _by_name(who, model, input_shape)
    for name, layer in _leaves(model):
        for key in _keys(who, name, layer):
            array = d[f"{name}.{key}"]
            if key == "weight" and isinstance(layer, Conv2d):
                array = layout.conv_from_oihw(array)
            elif key == "weight" and isinstance(layer, Linear):
                array = layout.linear_from_nchw(array, channels.get(name))
            yield f"{name}.{key}", array


def _keys(who: str, name: str, layer: Layer) -> tuple[str, ...]:
    """The arrays of a layer, by their names in it."""
    keys = tuple(layer.state_dict())
    known = isinstance(layer, (Conv2d, Linear, LayerNorm, GroupNorm)) or (
        isinstance(layer, BatchNorm) and set(keys) == set(SAME_ARRAYS)
    )
    if keys and not known:
        raise TypeError(
            f"{who}: layer {name} is a {type(layer).__name__}, whose arrays have no counterpart in "
            "PyTorch; expected Conv2d, Linear, norms, and layers without arrays."
        )
    return keys
