"""Models as files: one safetensors file of the arrays and a description of the layers, no code.

A description is a dict that JSON can hold: each layer's kind and the arguments of its constructor,
and what calls what (`_formats/description.py`). `load_model` calls constructors of pycnn's layers
and of `register`, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pycnn
from pycnn._formats import checkpoints, description
from pycnn._formats.description import KINDS, Kind, arguments_of, build, describe
from pycnn._formats.files import FileError, FilePath, read_safetensors, write_safetensors
from pycnn.layers import Layer, Module

__all__ = ["build", "describe", "load_model", "register", "save_model"]


def register(layer: type[Layer], *arguments: str) -> None:
    """Let `save_model` and `load_model` know a kind of layer of your own, by its class's name.

    arguments: those of its constructor, by keyword; by default all but `rng`. The layer has
    attributes of the same names that JSON can hold (a `bias` that is a Parameter or None counts as
    True or False). The program that loads the file registers the kind as well. Raises TypeError for
    what is no class of layers, ValueError for a name that pycnn or another class has.
    """
    if not (isinstance(layer, type) and issubclass(layer, Layer)) or issubclass(layer, Module):
        raise TypeError(
            f"register: got {layer!r}; expected a class of layers, not of modules: files hold what "
            "a module does."
        )
    name, known = layer.__name__, description.registered
    kind = arguments_of(layer)
    if arguments:
        kind = Kind(layer, arguments, {k: v for k, v in kind.defaults.items() if k in arguments})
    if known.get(name, kind).layer is not layer or name in KINDS or name == "Sequential":
        raise ValueError(f"register: there is another kind of layer called {name}; rename one.")
    known[name] = kind


def save_model(model: Module, path: FilePath) -> None:
    """Write a model to one safetensors file: layers, calls, state, normalization, input_shape.

    A chain of layers is read again as a `Sequential`, any other network as a `Graph` of what it
    does, in training and in eval mode, with the same names of parameters; the class is not needed.

    That is normalization, input_shape and class_names. Other programs read the arrays by the names
    of `model.state_dict()`. The same model gives the same bytes. The file is whole or the old one
    stays (see `FileError`). Optimizer and random states are not part of it.

    Raises FileError if it cannot be written, TypeError for a layer of a kind that has no name in
    files (see `register`) and for what is no model, ValueError for a network without a known input
    shape.
    """
    metadata = {"kind": "model", "model": describe(model), "version": pycnn.__version__}
    write_safetensors(path, model.state_dict(), metadata)


def load_model(path: FilePath) -> Module:
    """The model that `save_model` wrote, or that of a checkpoint, in eval mode, with the same bits.

    Of a checkpoint with an average (`callbacks.Ema`) it is the average.

    To train it on, `model.train()`. Raises FileError, which says what is wrong, for a file that is
    missing, damaged, of another kind, or of a newer version of pycnn than this one.
    """
    tensors, metadata = read_safetensors(path)
    description = metadata.get("model")
    if metadata.get("kind") == checkpoints.KIND:
        tensors, description = checkpoints.evaluated(path)
    elif metadata.get("kind") != "model":
        raise FileError(f"{path}: {_other_kind(metadata)}")
    try:
        model = build(description, tensors)
        model.load_state_dict(tensors)
    except checkpoints.DAMAGED as error:
        raise FileError(f"{path}: {error}") from error
    return model.eval()


def _other_kind(metadata: Mapping[str, Any]) -> str:
    if "kind" in metadata:
        return f"this holds a {metadata['kind']}, not a model; expected a file of save_model."
    return (
        "there is no description of a pycnn model in it; expected a file of save_model. For "
        "weights from PyTorch make the model and write interop.load_torch_state_dict(model, "
        "safetensors.numpy.load_file(path))."
    )
