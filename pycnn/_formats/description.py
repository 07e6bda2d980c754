"""A model without its numbers, as JSON can hold it: kinds of layers, their arguments, the calls.

Format 1 is a chain: {"layers": [{"kind": "Conv2d", ...}, {"kind": "Sequential", "layers": ...}]}.
Format 2 is a program: {"layers": [{"name": "layer1.0.conv1", "kind": ...}], "inputs": [[H, W, C]],
"training" and "eval": {"calls": [[layer, [values read], [values given]]], "outputs": [...]}},
where a layer is a name, or the description of a function, {"kind": "Add"}. The values 0, 1, ... are
the inputs. The class of the user's model is not needed to read it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from pycnn import layers
from pycnn.graph.program import Program, is_named
from pycnn.layers import Graph, Layer, Module, Sequential
from pycnn.ops.arrays import kind_of
from pycnn.preprocessing import Normalization

FORMAT = 2  # of descriptions; a later one that older versions cannot read has a higher number
# Kinds whose weight is a number a channel, and the argument that says how many.
CHANNELWISE = {
    "BatchNorm1d": "num_features",
    "BatchNorm2d": "channels",
    "ChannelAffine": "channels",
    "GroupNorm": "num_channels",
    "LayerNorm": "normalized_shape",
}
PARTS = {"dtype", "format", "input_shape", "layers", "normalization"}
OPTIONAL = {"class_names"}  # is there if the model has names
PROGRAM = {"inputs", "training", "eval"}  # of format 2, beside these


class Kind(NamedTuple):
    """A kind of layer that files can name; defaults: of the arguments that have one."""

    layer: type[Layer]
    arguments: tuple[str, ...]
    defaults: Mapping[str, Any]

    @property
    def needed(self) -> set[str]:
        """The arguments without a default."""
        return set(self.arguments) - set(self.defaults)


def arguments_of(layer: type[Layer]) -> Kind:
    """What a layer's constructor takes, but for `rng`: attributes of the layer as well."""
    signature = inspect.signature(layer)
    named = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if name != "rng" and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    defaults = {name: p.default for name, p in named.items() if p.default is not p.empty}
    return Kind(layer, tuple(named), defaults)


KINDS: dict[str, Kind] = {
    name: arguments_of(kind)
    for name, kind in vars(layers).items()
    if isinstance(kind, type) and issubclass(kind, Layer) and not issubclass(kind, Module)
    and kind is not Layer
}  # fmt: skip
registered: dict[str, Kind] = {}


def _kind(name: Any) -> Kind | None:
    """The class and its arguments; None for a name that neither pycnn nor `register` knows."""
    if not isinstance(name, str):
        return None
    return registered.get(name) or KINDS.get(name)


# ---- model -> description --------------------------------------------------------------------


def describe(model: Module, like: Any = None) -> dict[str, Any]:
    """All of a model but its numbers; `build` makes a model of it.

    like: another description, whose inputs are taken where the model does not know its own.

    Raises TypeError that names the layer whose kind is not known, or for what is no model, and
    ValueError for a network whose input shape is not known.
    """
    if not isinstance(model, Module):
        raise TypeError(
            f"describe: the model is {kind_of(model)}; expected a Sequential or another "
            "layers.Module: write Sequential(layer) for a single layer."
        )
    dtypes = {str(parameter.data.dtype) for parameter in model.parameters()} or {"float32"}
    if len(dtypes) > 1:
        raise TypeError(
            "describe: the model mixes float32 and float64; write model.astype(np.float32)."
        )
    called = {} if model.class_names is None else {"class_names": list(model.class_names)}
    common = {
        **called,
        "dtype": dtypes.pop(),
        "input_shape": None if model.input_shape is None else list(model.input_shape),
        "normalization": model.normalization.to_dict(),
    }
    if _is_chain(model):
        inside = [_describe(layer, name) for name, layer in model.children().items()]
        return {**common, "format": 1, "layers": inside}
    shapes = _shapes(model, like)
    return {**common, "format": 2, **_describe_program(model, shapes)}


def complete(description: Any) -> Any:
    """A description with the defaults of arguments that an older pycnn did not write."""
    if isinstance(description, Mapping):
        found = {key: complete(value) for key, value in description.items()}
        kind = _kind(found.get("kind"))
        return {**kind.defaults, **found} if kind is not None else found
    return (
        [complete(item) for item in description] if isinstance(description, list) else description
    )


def _is_chain(model: Layer) -> bool:
    """Whether it is Sequentials of layers, each of them once."""
    found = [layer for _, layer in model.named_layers()]
    chains = [layer for layer in found if isinstance(layer, Module)]
    inside = sum(len(layer.children()) for layer in chains)
    return all(type(layer) is Sequential for layer in chains) and inside == len(found) - 1


def _describe_program(model: Module, shapes: list[tuple[int, ...]]) -> dict[str, Any]:
    named = dict(model.named_layers())
    _refuse_own_parameters(named)
    held = {name: layer for name, layer in named.items() if not isinstance(layer, Module)}
    programs = {}
    training = [(layer, layer.training) for layer in named.values()]
    try:
        for mode in ("training", "eval"):
            model.train(mode == "training")
            programs[mode] = _describe_calls(model.program(*shapes))
    finally:
        for layer, was in training:
            if layer.training is not was:
                layer.training = was
    described = [{"name": name, **_describe(layer, name)} for name, layer in held.items()]
    return {"layers": described, "inputs": [list(shape[1:]) for shape in shapes], **programs}


def _shapes(model: Module, like: Any) -> list[tuple[int, ...]]:
    """Of the inputs, N = 1."""
    if model.input_shape is not None:
        return [(1, *model.input_shape)]
    last = model.last_input_shapes
    if last is None and isinstance(like, Mapping) and like.get("inputs"):
        last = tuple((1, *shape) for shape in like["inputs"])
    if last is None:
        raise ValueError(
            "describe: the shape of the model's input is not known, and a network is saved as what "
            "it does with one; set model.input_shape = (H, W, C), or run forward once."
        )
    return list(last)


def _refuse_own_parameters(named: Mapping[str, Layer]) -> None:
    for name, layer in named.items():
        own = [key for key, value in vars(layer).items() if isinstance(value, layers.Parameter)]
        if isinstance(layer, Module) and (own or layer._buffer_names):
            raise TypeError(
                f"describe: module {name or type(layer).__name__} has arrays of its own, "
                f"{', '.join([*own, *layer._buffer_names])}; expected them in layers: files name "
                "layers, not modules."
            )


def _describe_calls(program: Program) -> dict[str, Any]:
    calls = []
    for node in program.nodes:
        if not is_named(node) and any(True for _ in node.operation.named_parameters()):
            raise TypeError(
                f"describe: {node.label} computes with a Parameter of another layer; expected "
                "layers.Combine or ChannelAffine with one of its own: files name layers."
            )
        layer = node.name if is_named(node) else _describe(node.operation, node.name)
        calls.append([layer, list(program.ids(node.inputs)), list(program.ids(node.outputs))])
    return {"calls": calls, "outputs": list(program.ids(program.outputs))}


def _describe(layer: Layer, name: str) -> dict[str, Any]:
    if type(layer) is Sequential:
        inside = [_describe(child, f"{name}.{i}") for i, child in layer.children().items()]
        return {"kind": "Sequential", "layers": inside}
    kind = _kind(type(layer).__name__)
    if kind is None or kind.layer is not type(layer):
        raise TypeError(
            f"layer {name} is a {type(layer).__name__}, a kind that files have no name for; write "
            f"pycnn.modelfile.register({type(layer).__name__}) first."
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


# ---- description -> model --------------------------------------------------------------------


def build(description: Any, tensors: Mapping[str, Any] | None = None) -> Module:
    """A new model of a description, in training mode, with initial values.

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
    expected = PARTS if version == 1 else PARTS | PROGRAM
    if odd := (set(description) ^ expected) - OPTIONAL:
        names = ", ".join(sorted(map(str, odd)))
        raise ValueError(f"the description lacks or does not know: {names}.")
    if description["dtype"] not in ("float32", "float64"):
        raise ValueError(f"dtype is {description['dtype']!r}; expected 'float32' or 'float64'.")
    entries = description["layers"]
    if version == 1:
        if tensors is not None:
            _check_sizes(list(_named(entries, "")), tensors)
        model: Module = Sequential(*_build_all(entries, ""))
    else:
        model = _build_program(description, tensors)
    model.normalization = Normalization.from_dict(description["normalization"])
    model.input_shape = description["input_shape"]
    model.class_names = description.get("class_names")
    return model.astype(description["dtype"])


def _build_program(description: Mapping[str, Any], tensors: Mapping[str, Any] | None) -> Graph:
    entries = [dict(entry) for _, entry in _named(description["layers"], "")]
    names = [entry.pop("name", None) for entry in entries]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError("the layers of the description have no names of their own: damaged.")
    named = dict(zip(names, entries, strict=True))
    if tensors is not None:
        _check_sizes(list(named.items()), tensors)
    held = {name: _build(entry, name) for name, entry in named.items()}
    shapes = description["inputs"]
    if not isinstance(shapes, list) or not shapes:
        raise ValueError("the description has no inputs: damaged.")
    try:
        calls = {mode == "training": list(_calls(description[mode], held, len(shapes)))
                 for mode in ("training", "eval")}  # fmt: skip
        outputs = {m == "training": tuple(description[m]["outputs"]) for m in ("training", "eval")}
        graph = Graph.from_calls(held, calls, len(shapes), outputs)
        graph.program(*[(1, *shape) for shape in shapes])
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"the calls of the description make no network ({error}): damaged."
        ) from None
    return graph


def _calls(program: Any, held: Mapping[str, Layer], inputs: int) -> Iterator[Any]:
    """(layer, values it reads, values it gives); each value is given once, before it is read."""
    known = set(range(inputs))
    functions: dict[str, Layer] = {}
    for call in program["calls"]:
        if len(call) != 3:
            raise KeyError(f"call {call}")
        layer, reads, gives = call
        if isinstance(layer, str):
            made = held[layer]
        else:
            key = repr(sorted(layer.items()))
            made = functions.setdefault(key, _build(layer, "of a function"))
        if not known.issuperset(reads) or not known.isdisjoint(gives) or len(gives) != made.results:
            raise KeyError(f"values {reads} -> {gives}")
        known.update(gives)
        yield made, tuple(reads), tuple(gives)
    if not program["outputs"] or not known.issuperset(program["outputs"]):
        raise KeyError(f"outputs {program['outputs']}")


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
    if entry.get("kind") == "Sequential" and set(arguments) == {"layers"}:
        return Sequential(*_build_all(arguments["layers"], f"{name}."))
    kind = _kind(entry.get("kind"))
    if kind is None:
        known = ", ".join(sorted([*KINDS, *registered]))
        raise ValueError(
            f"layer {name} is of the kind {entry.get('kind')!r}, which this version of pycnn does "
            f"not know; it knows {known}. Register a kind of your own with "
            "pycnn.modelfile.register."
        )
    if not set(arguments) <= set(kind.arguments) or not kind.needed <= set(arguments):
        raise ValueError(
            f"layer {name} ({entry['kind']}) has the arguments {sorted(arguments)}; "
            f"expected {sorted(kind.arguments)}."
        )
    try:
        return kind.layer(**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"layer {name}: {error}") from error


def _check_sizes(entries: list[tuple[str, Any]], tensors: Mapping[str, Any]) -> None:
    """Refuse a layer whose weight is not in `tensors` in its size.

    A damaged number could otherwise ask for more memory than there is.
    """
    for name, entry in entries:
        if entry["kind"] == "Sequential":
            _check_sizes(list(_named(entry.get("layers"), f"{name}.")), tensors)
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
        if entry["kind"] == "ConvTranspose2d":
            KH, KW = entry["kernel_size"]
            return KH, KW, entry["out_channels"] // entry["groups"], entry["in_channels"]
        if entry["kind"] == "Conv1d":
            K = entry["kernel_size"]
            return K, entry["in_channels"] // entry["groups"], entry["out_channels"]
        if entry["kind"] == "Linear":
            return entry["in_features"], entry["out_features"]
        if entry["kind"] == "Combine":
            return tuple(entry["shape"])
        kind = entry["kind"]
        return (entry[CHANNELWISE[kind]],) if kind in list(CHANNELWISE) else None
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return ()
