"""`export_onnx`: a model's function in eval mode as an ONNX graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn._formats.files import FilePath, file_path, replacing
from pycnn._runtime.extras import need
from pycnn.graph.program import Program
from pycnn.graph.values import Node, Value
from pycnn.layers import Dropout, Module
from pycnn.onnx.writers import WRITERS
from pycnn.onnx.writing import Writing
from pycnn.ops.arrays import kind_of

OPSET = 17  # of 2022: every runtime of today reads it


def export_onnx(
    model: Module,
    path: FilePath,
    input_shape: tuple[int | None, ...] = (None, 28, 28, 1),
    *more: tuple[int | None, ...],
) -> None:
    """Write the model's function in eval mode to an ONNX file, opset 17.

    The graph takes "images", float32 of input_shape (N is free where it is None) in 0 .. 1, applies
    `model.normalization`, and gives "output", what `model.eval()(model.normalization(images))`
    gives, to rounding. "same" padding becomes explicit pads for this input_shape; Dropout is left
    out. The file is checked by onnx.checker, and whole or not written at all.

    Networks of several inputs (one shape each: input_shape, *more) and outputs call them "input0",
    "input1", ..., "output0", ..., and do not normalise.

    Inputs and outputs of the graph are the model's, NHWC. Inside it computes in NCHW: one Transpose
    after an input, one before an output that is an image, and in between only around layers that
    read the axes in pycnn's order, as Permute.

    Raises ImportError without onnx (extra "onnx"), TypeError for a float64 model and a kind of
    layer that ONNX files cannot hold here, ValueError for an input_shape that a layer refuses,
    FileError for a file that cannot be written.
    """
    onnx = need("onnx", "onnx", "export_onnx")
    if not isinstance(model, Module):
        raise TypeError(
            f"export_onnx: model is {kind_of(model)}; expected a Sequential, or another "
            "layers.Module."
        )
    for parameter in model.parameters():
        if parameter.data.dtype != np.float32:
            raise TypeError(
                f"export_onnx: {parameter.name} is {parameter.data.dtype}; expected float32: write "
                "model.astype(np.float32)."
            )
    file_path(path)
    shapes = tuple(input_shape), *more
    program = _eval_program(model, shapes)
    writing = Writing(onnx, program, free=shapes[0][0] is None)
    inputs = [_input(writing, model, i, x, shapes[i]) for i, x in enumerate(program.inputs)]
    for node in program.nodes:
        _write(writing, node)
    outputs = [_output(writing, j, y) for j, y in enumerate(program.outputs)]
    proto = writing.model(inputs, outputs, OPSET, model.class_names)
    onnx.checker.check_model(proto, full_check=True)
    with replacing(path) as file:
        file.write(proto.SerializeToString(deterministic=True))


def _eval_program(model: Module, shapes: tuple[tuple[int | None, ...], ...]) -> Program:
    modes = [(layer, layer.training) for _, layer in model.named_layers()]
    try:
        return model.eval().program(*shapes)
    finally:
        for layer, training in modes:
            layer.training = training


def _write(w: Writing, node: Node) -> None:
    layer, x = node.operation, node.inputs[0]
    if isinstance(layer, Dropout) or type(layer).__name__ == "Dropout2d":
        w.same(node.outputs[0], x)
        return
    writer = WRITERS.get(type(layer).__name__)
    if writer is None or type(layer).__module__.partition(".")[0] != "pycnn":
        raise TypeError(
            f"export_onnx: {node.label} has no ONNX operator here; expected layers of pycnn.layers."
        )
    w.begin(node)
    writer(w, node)


def _input(w: Writing, model: Module, i: int, x: Value, shape: tuple[int | None, ...]) -> Any:
    alone = len(w.program.inputs) == 1
    given = name = "images" if alone else f"input{i}"
    normalization = model.normalization
    if not normalization.is_identity and alone:
        normalization(np.zeros((1, *x.full_shape[1:]), np.float32))  # refuses other channels
        name = w.node("Sub", [name, w.floats("mean", normalization.mean)], "minus_mean")
        name = w.node("Div", [name, w.floats("std", normalization.std)], "normalized")
    w.give(x, name, "last")
    if x.ndim == 4:  # an import sees by it that the input is NHWC: everything reads the turned one
        turned = w.take(x, "first")
        w.names[id(x)] = {"first": turned}
    return w.info(given, (w.batch(x.full_shape[0]), *shape[1:]))


def _output(w: Writing, j: int, y: Value) -> Any:
    outputs = w.program.outputs
    name = "output" if len(outputs) == 1 else f"output{j}"
    found = w.take(y, "last")
    given = {f"output{i}" for i in range(j)}  # by the value that is two outputs
    last = list(w.nodes[-1].output) if w.nodes else []
    if last == [found] and found not in given and w.readers(found) == 0:
        w.nodes[-1].output[0] = name
        w.renamed(found, name)
    else:
        w.node("Identity", [found], name)
    return w.info(name, (w.batch(y.full_shape[0]), *y.full_shape[1:]))
