"""The table of ONNX's operators: which opsets are read, by what, and what they become."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pycnn.onnx import (
    fold,
    read_convs,
    read_elementwise,
    read_moves,
    read_products,
    read_sizes,
)
from pycnn.onnx.read_elementwise import plain
from pycnn.onnx.reading import Reading

NEWEST = 26  # the opset that the table was held against
OLDEST = 7  # before it operators broadcast by an attribute


class Operator(NamedTuple):
    """What an import does with an operator.

    since, until: the opsets that are read. layers: what it becomes, for the table in the docs.
    parameters: its inputs that must be constants, by number; -1 stands for all but the first.
    """

    read: Callable[[Reading], Any]
    layers: str
    parameters: tuple[int, ...] = ()
    since: int = OLDEST
    until: int = NEWEST


E, C, P, M = read_elementwise, read_convs, read_products, read_moves

OPERATORS: dict[str, Operator] = {
    "Abs": Operator(plain("Abs"), "Abs"),
    "Add": Operator(E.join, "Add, Affine, ChannelAffine, Combine, a bias"),
    "AveragePool": Operator(M.average_pool, "AvgPool2d"),
    "BatchNormalization": Operator(C.batch_norm, "BatchNorm1d, BatchNorm2d", (1, 2, 3, 4)),
    "Cast": Operator(E.cast, "nothing, to float32"),
    "Celu": Operator(E.celu, "ELU, Affine", since=12),
    "Clip": Operator(E.clip, "Clip, ReLU, ReLU6", (1, 2)),
    "Concat": Operator(M.concat, "Concat"),
    "Conv": Operator(C.conv, "Conv2d", (1, 2)),
    "ConvTranspose": Operator(C.conv_transpose, "ConvTranspose2d", (1, 2)),
    "DepthToSpace": Operator(M.to_space, "DepthToSpace"),
    "Div": Operator(E.join, "Divide, Affine, ChannelAffine, Combine, Power"),
    "Dropout": Operator(E.dropout, "nothing", (1, 2)),
    "Elu": Operator(E.elu, "ELU"),
    "Erf": Operator(plain("Erf"), "Erf", since=9),
    "Exp": Operator(plain("Exp"), "Exp"),
    "Expand": Operator(E.expand, "Combine, or nothing", (1,), since=8),
    "Flatten": Operator(M.flatten, "Flatten, Reshape, or nothing"),
    "Gather": Operator(M.gather, "Slice, Concat", (1,)),
    "Gelu": Operator(E.gelu, "GELU", since=20),
    "Gemm": Operator(P.gemm, "Linear", (1,)),
    "GlobalAveragePool": Operator(M.global_pool, "GlobalAvgPool2d"),
    "GlobalMaxPool": Operator(M.global_pool, "GlobalMaxPool2d"),
    "GroupNormalization": Operator(C.group_norm, "GroupNorm", (1, 2), since=18),
    "HardSigmoid": Operator(E.hard_sigmoid, "Hardsigmoid"),
    "HardSwish": Operator(plain("Hardswish"), "Hardswish", since=14),
    "Identity": Operator(E.same, "nothing"),
    "InstanceNormalization": Operator(C.instance_norm, "GroupNorm", (1, 2)),
    "LRN": Operator(C.lrn, "LocalResponseNorm"),
    "LayerNormalization": Operator(C.layer_norm, "LayerNorm", (1, 2), since=17),
    "LeakyRelu": Operator(E.leaky_relu, "LeakyReLU"),
    "Log": Operator(plain("Log"), "Log"),
    "LogSoftmax": Operator(M.log_softmax, "Softmax, Log"),
    "MatMul": Operator(P.matmul, "Linear", (1,)),
    "Max": Operator(E.extreme, "Clip, ReLU, Add, Subtract"),
    "MaxPool": Operator(M.max_pool, "MaxPool2d"),
    "Mean": Operator(E.total, "Add, Affine", since=8),
    "Min": Operator(E.extreme, "Clip, ReLU, Subtract"),
    "Mish": Operator(E.mish, "Softplus, Tanh, Multiply", since=18),
    "Mul": Operator(E.join, "Multiply, Affine, ChannelAffine, Combine"),
    "Neg": Operator(E.negative, "Affine"),
    "PRelu": Operator(E.prelu, "PReLU", (1,)),
    "Pad": Operator(M.pad, "Pad, Slice", (1, 2, 3)),
    "Pow": Operator(E.power, "Power, Sqrt", (1,)),
    "Reciprocal": Operator(E.reciprocal, "Power"),
    "ReduceL1": Operator(M.reduce, "Abs, GlobalAvgPool2d, Mean, Affine", (1,)),
    "ReduceL2": Operator(M.reduce, "Power, GlobalAvgPool2d, Mean, Affine, Sqrt", (1,)),
    "ReduceMax": Operator(M.reduce, "GlobalMaxPool2d", (1,)),
    "ReduceMean": Operator(M.reduce, "GlobalAvgPool2d, Mean", (1,)),
    "ReduceMin": Operator(M.reduce, "GlobalMaxPool2d, Affine", (1,)),
    "ReduceSum": Operator(M.reduce, "GlobalAvgPool2d, Mean, Affine", (1,)),
    "ReduceSumSquare": Operator(M.reduce, "Power, GlobalAvgPool2d, Mean, Affine", (1,)),
    "Relu": Operator(plain("ReLU"), "ReLU"),
    "Reshape": Operator(M.reshape, "Reshape, Flatten, Permute, or nothing", (1,)),
    "Resize": Operator(read_sizes.resize, "Resize", (1, 2, 3), since=10),
    "Selu": Operator(E.selu, "ELU, Affine"),
    "Sigmoid": Operator(plain("Sigmoid"), "Sigmoid"),
    "Slice": Operator(M.cut, "Slice", (1, 2, 3, 4)),
    "Softmax": Operator(M.softmax, "Softmax"),
    "Softplus": Operator(plain("Softplus"), "Softplus"),
    "Softsign": Operator(E.softsign, "Abs, Affine, Divide"),
    "SpaceToDepth": Operator(M.to_space, "SpaceToDepth"),
    "Split": Operator(M.split, "Split", (1,)),
    "Sqrt": Operator(plain("Sqrt"), "Sqrt"),
    "Squeeze": Operator(M.squeeze, "nothing", (1,)),
    "Sub": Operator(E.join, "Subtract, Affine, ChannelAffine, Combine"),
    "Sum": Operator(E.total, "Add", since=8),
    "Tanh": Operator(plain("Tanh"), "Tanh"),
    "Tile": Operator(M.tile, "Concat, Combine", (1,)),
    "Transpose": Operator(M.transpose, "nothing, Permute"),
    "Unsqueeze": Operator(M.unsqueeze, "nothing", (1,)),
    "Upsample": Operator(read_sizes.resize, "Resize", (1,), until=9),
}
# What patterns.py makes of several nodes.
PATTERNS: dict[str, Callable[[Reading], Any]] = {
    "pycnn.GELU": plain("GELU"),
    "pycnn.GELU.tanh": plain("GELU", "tanh"),
    "pycnn.Hardswish": plain("Hardswish"),
    "pycnn.SiLU": plain("SiLU"),
    "pycnn.Softplus": plain("Softplus"),
}


def readers(opset: int) -> dict[str, Callable[[Reading], Any]]:
    """What reads each operator of an opset."""
    known = {
        name: operator.read
        for name, operator in OPERATORS.items()
        if operator.since <= opset <= operator.until or opset > NEWEST == operator.until
    }
    return known | PATTERNS


def table() -> str:
    """The table of the docs, in Markdown."""
    lines = ["| operator | opsets | becomes |", "| --- | --- | --- |"]
    for name, operator in sorted(OPERATORS.items()):
        end = "" if operator.until == NEWEST else f" to {operator.until}"
        lines.append(f"| {name} | {operator.since}{end or ' and later'} | {operator.layers} |")
    folded = ", ".join(sorted(fold.FOLDED.keys() - OPERATORS.keys()))
    lines.append(
        f"| of constants and shapes, computed at import: {folded} | {OLDEST} and later | |"
    )
    return "\n".join(lines)
