"""What `import_onnx` makes of each operator and of what exporters write, by onnx's reference."""

import numpy as np
import pytest
from onnx_cases import close, model, node, onnx, reference

import pycnn
from pycnn.onnx import import_onnx

IMAGES, VECTORS, ROWS = (None, 4, 6, 5), (None, 6), (None, 3, 8)


def floats(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def ints(*numbers):
    return np.array(numbers, np.int64)


def load(proto, tmp_path, **options):
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    return import_onnx(path, **options)


def turned(x, to):
    """An image between NCHW and NHWC."""
    return np.ascontiguousarray(x.transpose(to)) if x.ndim == 4 else x


def check(proto, tmp_path, *shapes, N=2, turn=True):
    """Import, run in NHWC, compare with the reference in NCHW; export, import and compare again."""
    xs = [floats(N, *shape[1:]) for shape in shapes]
    expected = reference(proto, *xs)
    network = load(proto, tmp_path, softmax=True)
    images = [turned(x, (0, 2, 3, 1)) if turn else x for x in xs]
    found = network(*images)
    ys = found if isinstance(found, tuple) else (found,)
    for y, z in zip(ys, expected, strict=True):
        y = turned(y, (0, 3, 1, 2)) if turn else y
        close(y.reshape(z.shape) if y.size == z.size else y, z)
    path = tmp_path / "again.onnx"
    pycnn.onnx.export_onnx(network, path, *((None, *x.shape[1:]) for x in images))
    again = import_onnx(path, softmax=True)(*images)
    for y, z in zip(again if isinstance(again, tuple) else (again,), ys, strict=True):
        close(y, z)
    return network


ARRAYS = {
    "c": floats(4, 1, 1), "s": np.float32(1.5), "v": floats(5), "hw": floats(6, 5),
    "all": floats(4, 6, 5), "row": floats(8), "rows": floats(3, 8), "w": floats(8, 4, 3, 1),
    "wt": floats(4, 3, 3, 2), "m": floats(8, 7), "p": floats(4, 1, 1), "zero": np.float32(0),
    "b4": floats(4), "p4": np.abs(floats(4)) + 0.5, "one": np.float32(1), "six": np.float32(6),
    "three": np.float32(3), "half": np.float32(0.5), "r2": np.float32(2**0.5),
    "sixth": np.float32(1 / 6), "i0": ints(0), "i1": ints(1), "i2": ints(2), "i3": ints(3),
    "i23": ints(2, 3), "last": ints(-1), "flat": ints(-1, 120), "g": ints(0, 2, 2, 6, 5),
    "back": ints(0, 4, 6, 5), "tokens": ints(0, 4, 30), "sizes": ints(1, 3), "m2": ints(-2),
    "pads": ints(0, 0, 1, 2, 0, 1, 0, 1), "s2": np.array([1, 1, 2, 2], np.float32),
    "far": ints(2**62), "chw": ints(4, 6, 5), "fm": floats(120, 3), "minus": ints(-1),
}  # fmt: skip


def one(operator, inputs="x", **attributes):
    return [node(operator, inputs, "y", **attributes)]


def chained(*steps):
    """Nodes, each on the result "t" of the one before: (operator, other inputs, attributes)."""
    nodes, x = [], "x"
    for i, (operator, *more) in enumerate(steps):
        others = next((m for m in more if isinstance(m, str)), "@")
        attributes = next((m for m in more if isinstance(m, dict)), {})
        y = "y" if i == len(steps) - 1 else f"t{i}"
        nodes.append(node(operator, others.replace("@", x), y, **attributes))
        x = y
    return nodes


SHUFFLE = chained(
    ("Reshape", "@ g"), ("Transpose", {"perm": [0, 2, 1, 3, 4]}), ("Reshape", "@ back"),
    ("Conv", "@ w"),
)  # fmt: skip
# name: (nodes, shape of x, the layers that it becomes)
CASES = {
    "relu": (one("Relu"), IMAGES, "ReLU"),
    "leaky": (one("LeakyRelu", alpha=0.3), IMAGES, "LeakyReLU"),
    "elu": (one("Elu", alpha=0.7), VECTORS, "ELU"),
    "selu": (one("Selu"), VECTORS, "ELU Affine"),
    "celu": (one("Celu", alpha=0.6), VECTORS, "Affine ELU Affine"),
    "hard_sigmoid": (one("HardSigmoid"), IMAGES, "Hardsigmoid"),
    "hard_swish": (one("HardSwish"), IMAGES, "Hardswish"),
    "sigmoid": (one("Sigmoid"), ROWS, "Sigmoid"),
    "softplus": (one("Softplus"), IMAGES, "Softplus"),
    "softsign": (one("Softsign"), IMAGES, "Abs Affine Divide"),
    "tanh": (one("Tanh"), IMAGES, "Tanh"),
    "exp_log": (chained(("Exp",), ("Sqrt",), ("Log",)), IMAGES, "Exp Sqrt Log"),
    "abs_erf": (chained(("Abs",), ("Erf",), ("Neg",)), IMAGES, "Abs Erf Affine"),
    "clip": (one("Clip", "x  six"), IMAGES, "Clip"),
    "relu6": (one("Clip", "x zero six"), IMAGES, "ReLU6"),
    "max": (one("Max", "x zero"), IMAGES, "ReLU"),
    "prelu": (one("PRelu", "x p"), IMAGES, "PReLU"),
    "pow": (one("Pow", "x i2"), IMAGES, "Power"),
    "silu": ([node("Sigmoid", "x", "t"), node("Mul", "t x", "y")], IMAGES, "SiLU"),
    "hardswish": (
        [node("Add", "x three", "a"), node("Clip", "a zero six", "b"), node("Mul", "x b", "c0"),
         node("Div", "c0 six", "y")], IMAGES, "Hardswish",
    ),
    "gelu": (
        [node("Div", "x r2", "a"), node("Erf", "a", "b"), node("Add", "b one", "c0"),
         node("Mul", "x c0", "d"), node("Mul", "d half", "y")], IMAGES, "GELU",
    ),
    "add_number": (chained(("Mul", "@ s"), ("Add", "s @"), ("Sub", "@ s")), IMAGES, "Affine"),
    "from_number": (chained(("Sub", "s @"), ("Div", "@ s")), IMAGES, "Affine"),
    "number_by": (chained(("Exp",), ("Div", "s @")), IMAGES, "Exp Power Affine"),
    "channels": (chained(("Mul", "@ c"), ("Add", "@ c")), IMAGES, "ChannelAffine"),
    "from_channels": (chained(("Sub", "c @"), ("Div", "@ c")), IMAGES, "ChannelAffine"),
    "columns": (one("Mul", "x v"), IMAGES, "Combine"),
    "pixels": (chained(("Sub", "hw @"), ("Add", "@ all")), IMAGES, "Combine Combine"),
    "positions": (chained(("Add", "@ rows"), ("Mul", "@ row")), ROWS, "Combine ChannelAffine"),
    "conv_add": (chained(("Conv", "@ w"), ("Relu",)), IMAGES, "Conv2d ReLU"),
    "same_lower": (one("Conv", "x w", auto_pad="SAME_LOWER", strides=[2, 2]), IMAGES, "Conv2d"),
    "transposed": (
        one("ConvTranspose", "x wt", strides=[2, 3], pads=[1, 0, 0, 1], output_padding=[1, 2]),
        IMAGES, "ConvTranspose2d",
    ),
    "transposed_same": (
        one("ConvTranspose", "x wt", strides=[2, 2], auto_pad="SAME_UPPER"), IMAGES,
        "ConvTranspose2d",
    ),
    "max_pool": (
        one("MaxPool", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1], ceil_mode=1),
        IMAGES, "MaxPool2d",
    ),
    "dilated_pool": (one("MaxPool", kernel_shape=[2, 2], dilations=[2, 3]), IMAGES, "MaxPool2d"),
    "average_pool": (
        one("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1,
            count_include_pad=1), IMAGES, "AvgPool2d",
    ),
    "global_max": (one("GlobalMaxPool"), IMAGES, "GlobalMaxPool2d"),
    "gate": (
        [node("GlobalAveragePool", "x", "a"), node("Sigmoid", "a", "b"), node("Mul", "x b", "y")],
        IMAGES, "GlobalAvgPool2d Sigmoid Reshape Multiply",
    ),
    "mean_space": (one("ReduceMean", axes=[2, 3], keepdims=0), IMAGES, "GlobalAvgPool2d"),
    "mean_channels": (one("ReduceMean", axes=[1]), IMAGES, "Mean"),
    "norm_space": (
        one("ReduceL2", axes=[2, 3], keepdims=0), IMAGES, "Power GlobalAvgPool2d Affine Sqrt",
    ),
    "norm_channels": (one("ReduceL1", axes=[1]), IMAGES, "Abs Mean Affine"),
    "normalized": (
        [node("ReduceL2", "x", "a", axes=[-1]), node("Div", "x a", "y")], ROWS,
        "Power Mean Affine Sqrt Divide",
    ),
    "sum_of_squares": (one("ReduceSumSquare", axes=[2]), ROWS, "Power Mean Affine"),
    "norm_of_constants": (
        [node("ReduceL2", "fm", "a", axes=[0]), node("Div", "fm a", "b"),
         node("MatMul", "x b", "y")], (None, 120), "Linear",
    ),
    "lrn": (one("LRN", size=3, alpha=0.5, beta=0.6, bias=1.5), IMAGES, "LocalResponseNorm"),
    "batch": (one("BatchNormalization", "x b4 b4 b4 p4"), IMAGES, "BatchNorm2d"),
    "instance": (one("InstanceNormalization", "x p4 b4"), IMAGES, "GroupNorm"),
    "layer_norm": (one("LayerNormalization", "x row row", axis=-1), ROWS, "LayerNorm"),
    "softmax": (one("Softmax", axis=1), IMAGES, "Softmax"),
    "log_softmax": (one("LogSoftmax"), ROWS, "Softmax Log"),
    "matmul": (one("MatMul", "x m"), ROWS, "Linear"),
    "matmul_add": (chained(("MatMul", "@ m"), ("Add", "@ w7")), ROWS, "Linear"),
    "from_left": (one("MatMul", "w43 x"), ROWS, "Permute Linear Permute"),
    "flat_gemm": (
        chained(("Relu",), ("Reshape", "@ flat"), ("Tanh",), ("MatMul", "@ fm")), IMAGES,
        "ReLU Tanh Flatten Linear",
    ),
    "shuffle": (SHUFFLE, IMAGES, "ChannelShuffle Conv2d"),
    "tokens": (
        chained(("Reshape", "@ tokens"), ("Transpose", {"perm": [0, 2, 1]}), ("Softmax",)), IMAGES,
        "Softmax Reshape",
    ),
    "cancel": (
        chained(("Transpose", {"perm": [0, 2, 3, 1]}), ("Tanh",),
                ("Transpose", {"perm": [0, 3, 1, 2]}), ("Conv", "@ w")), IMAGES, "Tanh Conv2d",
    ),
    "other_order": (one("Transpose", perm=[0, 1, 3, 2]), IMAGES, "Permute"),
    "flattened": (one("Flatten"), IMAGES, "Permute Flatten"),
    "other_flat": (one("Flatten", axis=2), (None, 1, 6, 5), None),
    "pad": (one("Pad", "x pads s"), IMAGES, "Pad"),
    "reflect": (one("Pad", "x pads", mode="reflect"), IMAGES, "Reshape Pad Reshape Pad"),
    "edge": (one("Pad", "x pads", mode="edge"), IMAGES, "Reshape Pad Reshape Pad"),
    "slice": (one("Slice", "x i1 far i1"), IMAGES, "Slice"),
    "backwards": (one("Slice", "x minus m2 i3 minus"), IMAGES, "Slice"),
    "gather": (one("Gather", "x i2", axis=3), IMAGES, "Slice"),
    "blocks": (
        chained(("DepthToSpace", {"blocksize": 2, "mode": "CRD"}), ("SpaceToDepth",
                {"blocksize": 2})), IMAGES, "DepthToSpace SpaceToDepth",
    ),
    "nearest": (
        one("Resize", "x  s2", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        IMAGES, "Resize",
    ),
    "linear": (one("Resize", "x  s2", mode="linear"), IMAGES, "Resize"),
    "sum": (one("Sum", "x x x"), IMAGES, "Add Add"),
    "squeezed": (
        chained(("Unsqueeze", "@ i1"), ("Relu",), ("Squeeze", "@ i1")), ROWS, "ReLU",
    ),
    "cast": (one("Cast", to=1), VECTORS, None),
}  # fmt: skip
ARRAYS |= {"w7": floats(7), "w43": floats(4, 3)}


@pytest.mark.parametrize("name", CASES)
def test_the_operator_computes_the_same(tmp_path, name):
    nodes, shape, kinds = CASES[name]
    names = {n for made in nodes for n in made.input}
    proto = model(nodes, {"x": shape}, {}, {k: a for k, a in ARRAYS.items() if k in names})
    proto.graph.output.append(onnx.helper.make_tensor_value_info("y", 1, None))
    network = check(onnx.shape_inference.infer_shapes(proto), tmp_path, shape)
    if kinds is not None:
        program = network.program((2, *network.input_shape))
        assert [n.kind for n in program.nodes] == kinds.split()
