"""Models as files: one safetensors file of the arrays and a description of the layers, no code.

A description is a dict that JSON can hold: each layer's kind and the arguments of its constructor.
`load_model` calls constructors of the table below and of `register`, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

import pycnn
from pycnn import layers
from pycnn._formats.files import FileError, FilePath, read_safetensors, write_safetensors
from pycnn.layers.base import Layer
from pycnn.layers.sequential import Sequential
from pycnn.ops.arrays import kind_of
from pycnn.preprocessing import Normalization

FORMAT = 1  # of descriptions; a later one that older versions cannot read has a higher number
PARTS = {"dtype", "format", "input_shape", "layers", "normalization"}
OPTIONAL = {"class_names"}  # is there if the model has names

_POOL = ("kernel_size", "stride", "padding")
# Kinds of pycnn.layers: the constructor's arguments, which are attributes of the layer as well.
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "AvgPool2d": (*_POOL, "count_include_pad"),
    "BatchNorm2d": ("channels", "momentum", "eps"),
    "Conv2d": (
        "in_channels", "out_channels", "kernel_size",
        "stride", "padding", "dilation", "groups", "bias",
    ),
    "Dropout": ("p",),
    "Flatten": (),
    "GlobalAvgPool2d": (),
    "Linear": ("in_features", "out_features", "bias"),
    "MaxPool2d": _POOL,
    "ReLU": (),
}  # fmt: skip


class Kind(NamedTuple):
    """A kind of layer that files can name."""

    layer: type[Layer]
    arguments: tuple[str, ...]


_registered: dict[str, Kind] = {}


def register(layer: type[Layer], *arguments: str) -> None:
    """Let `save_model` and `load_model` know a kind of layer of your own, by its class's name.

    arguments: those of its constructor, by keyword; the layer has attributes of the same names that
    JSON can hold (a `bias` that is a Parameter or None counts as True or False). The program that
    loads the file registers the kind as well. Raises TypeError for what is no class of layers,
    ValueError for a name that pycnn or another class has.
    """
    if not (isinstance(layer, type) and issubclass(layer, Layer)):
        raise TypeError(f"register: got {layer!r}; expected a class of layers.")
    name = layer.__name__
    taken = _registered.get(name, Kind(layer, ())).layer is not layer
    if taken or name in ARGUMENTS or name == "Sequential":
        raise ValueError(f"register: there is another kind of layer called {name}; rename one.")
    _registered[name] = Kind(layer, arguments)


def save_model(model: Sequential, path: FilePath) -> None:
    """Write a model to one safetensors file: layers, state and what the model knows beside them.

    That is normalization, input_shape and class_names. Other programs read the arrays by the names
    of `model.state_dict()`. The same model gives the same bytes. The file is whole or the old one
    stays (see `FileError`). Optimizer and random states are not part of it.

    Raises FileError if it cannot be written, TypeError for a layer of a kind that has no name in
    files (see `register`) and for what is no Sequential.
    """
    metadata = {"kind": "model", "model": describe(model), "version": pycnn.__version__}
    write_safetensors(path, model.state_dict(), metadata)


def load_model(path: FilePath) -> Sequential:
    """The model that `save_model` wrote, or that of a checkpoint, in eval mode, with the same bits.

    Of a checkpoint with an average (`callbacks.Ema`) it is the average.

    To train it on, `model.train()`. Raises FileError, which says what is wrong, for a file that is
    missing, damaged, of another kind, or of a newer version of pycnn than this one.
    """
    from pycnn import checkpoint  # which is made of this module

    tensors, metadata = read_safetensors(path)
    if metadata.get("kind") == checkpoint.KIND:
        return checkpoint.model_of(path)
    if metadata.get("kind") != "model":
        raise FileError(f"{path}: {_other_kind(metadata)}")
    try:
        model = build(metadata.get("model"), tensors)
        model.load_state_dict(tensors)
    except (TypeError, ValueError) as error:
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


def describe(model: Sequential) -> dict[str, Any]:
    """All of a model but its numbers, as JSON can hold it; `build` makes a model of it.

    Raises TypeError that names the layer whose kind is not known.
    """
    if not isinstance(model, Sequential):
        raise TypeError(
            f"describe: the model is {kind_of(model)}; expected a Sequential: "
            "write Sequential(layer) for a single layer."
        )
    dtypes = {str(parameter.data.dtype) for parameter in model.parameters()} or {"float32"}
    if len(dtypes) > 1:
        raise TypeError(
            "describe: the model mixes float32 and float64; write model.astype(np.float32)."
        )
    names = {} if model.class_names is None else {"class_names": list(model.class_names)}
    return {
        **names,
        "dtype": dtypes.pop(),
        "format": FORMAT,
        "input_shape": None if model.input_shape is None else list(model.input_shape),
        "layers": [_describe(layer, name) for name, layer in model._children().items()],
        "normalization": model.normalization.to_dict(),
    }


def build(description: Any, tensors: Mapping[str, Any] | None = None) -> Sequential:
    """A new model with the layers of a description, in training mode, with initial values.

    tensors: what will be loaded into it; a layer whose weight in it has other sizes is then refused
    before any memory is taken. Raises ValueError for a description that `describe` did not make, an
    unknown kind, and a newer format.
    """
    if not isinstance(description, Mapping) or "format" not in description:
        raise ValueError("the description of the model is missing; expected one of describe().")
    version = description["format"]
    if type(version) is not int or version < 1:
        raise ValueError(f"the description has format {version!r}; expected a number from 1.")
    if version > FORMAT:
        raise ValueError(
            f"the description has format {version}; this version of pycnn reads up to {FORMAT}: "
            "install a newer pycnn."
        )
    if set(description) - OPTIONAL != PARTS:
        odd = ", ".join(sorted(map(str, (set(description) - OPTIONAL) ^ PARTS)))
        raise ValueError(f"the description lacks or does not know: {odd}.")
    if description["dtype"] not in ("float32", "float64"):
        raise ValueError(f"dtype is {description['dtype']!r}; expected 'float32' or 'float64'.")
    entries = description["layers"]
    if tensors is not None:
        _check_sizes(entries, tensors)
    model = Sequential(*_build_all(entries, ""))
    model.normalization = Normalization.from_dict(description["normalization"])
    model.input_shape = description["input_shape"]
    model.class_names = description.get("class_names")
    return model.astype(description["dtype"])


def _kind(name: Any) -> Kind | None:
    """The class and its arguments; None for a name that neither pycnn nor `register` knows."""
    if not isinstance(name, str):
        return None
    if name in _registered:
        return _registered[name]
    layer = getattr(layers, name, None) if name in ARGUMENTS else None
    return None if layer is None else Kind(layer, ARGUMENTS[name])


def _describe(layer: Layer, name: str) -> dict[str, Any]:
    if type(layer) is Sequential:
        inside = [_describe(child, f"{name}.{i}") for i, child in layer._children().items()]
        return {"kind": "Sequential", "layers": inside}
    kind = _kind(type(layer).__name__)
    if kind is None or kind.layer is not type(layer):
        raise TypeError(
            f"layer {name} is a {type(layer).__name__}, a kind that files have no name for; write "
            f"pycnn.modelfile.register({type(layer).__name__}, 'argument', ...) first."
        )
    values = {argument: _plain(getattr(layer, argument)) for argument in kind.arguments}
    if "bias" in values:
        values["bias"] = layer.bias is not None
    return {"kind": type(layer).__name__, **values}


def _plain(value: Any) -> Any:
    """Tuples as lists, NumPy's numbers as Python's: equal layers have equal descriptions."""
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, (np.generic, np.ndarray)) else value


def _build_all(entries: Any, prefix: str) -> list[Layer]:
    return [_build(entry, name) for name, entry in _named(entries, prefix)]


def _named(entries: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """The entries of a list of layers, as "3" or "3.0"."""
    if not isinstance(entries, list) or not entries:
        where = f"layer {prefix[:-1]}" if prefix else "the description"
        raise ValueError(f"{where} has no list of layers; expected at least one layer.")
    for i, entry in enumerate(entries):
        if not isinstance(entry, Mapping) or "kind" not in entry:
            raise ValueError(f"layer {prefix}{i}: found {entry!r}; expected a kind of layer.")
        yield f"{prefix}{i}", entry


def _build(entry: Mapping[str, Any], name: str) -> Layer:
    arguments = {key: value for key, value in entry.items() if key != "kind"}
    if entry["kind"] == "Sequential" and set(arguments) == {"layers"}:
        return Sequential(*_build_all(arguments["layers"], f"{name}."))
    kind = _kind(entry["kind"])
    if kind is None:
        known = ", ".join(sorted([*ARGUMENTS, *_registered]))
        raise ValueError(
            f"layer {name} is of the kind {entry['kind']!r}, which this version of pycnn does not "
            f"know; it knows {known}. Register a kind of your own with pycnn.modelfile.register."
        )
    if set(arguments) != set(kind.arguments):
        raise ValueError(
            f"layer {name} ({entry['kind']}) has the arguments {sorted(arguments)}; "
            f"expected {sorted(kind.arguments)}."
        )
    try:
        return kind.layer(**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"layer {name}: {error}") from error


def _check_sizes(entries: Any, tensors: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse a layer whose weight is not in `tensors` in its size.

    A damaged number could otherwise ask for more memory than there is.
    """
    for name, entry in _named(entries, prefix):
        if entry["kind"] == "Sequential":
            _check_sizes(entry.get("layers"), tensors, f"{name}.")
        weight, expected = tensors.get(f"{name}.weight"), _weight_shape(entry)
        if expected is not None and (weight is None or weight.shape != expected):
            found = "missing" if weight is None else f"of shape {weight.shape}"
            raise ValueError(
                f"layer {name} ({entry['kind']}): its weight is {found}, "
                "which does not fit its description: damaged."
            )


def _weight_shape(entry: Mapping[str, Any]) -> tuple[int, ...] | None:
    """None for a kind without a weight, () for numbers that make no shape."""
    try:
        if entry["kind"] == "Conv2d":
            KH, KW = entry["kernel_size"]
            return KH, KW, entry["in_channels"] // entry["groups"], entry["out_channels"]
        if entry["kind"] == "Linear":
            return entry["in_features"], entry["out_features"]
        return (entry["channels"],) if entry["kind"] == "BatchNorm2d" else None
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return ()
