"""The operators as layers call them, thousands of times with the same few shapes.

Options were checked when the layer was made, arrays are the plan's own; C++ checks types and shapes
again. A call costs a third of that of its public sibling, whose formula holds: convolution of one
pixel forward 5.6 -> 1.9, all three directions 28 -> 9 microseconds (Zen 3, one thread).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import _pycnn

from pycnn.ops.activations import NONE
from pycnn.ops.arrays import Array
from pycnn.ops.conv2d import conv2d_shape
from pycnn.ops.conv_transpose2d import conv_transpose2d_shape

Options: TypeAlias = tuple[Any, ...]  # stride, padding, dilation, groups: pairs and numbers

_convolutions: dict[Any, _pycnn.Conv2dShape] = {}
_transposed: dict[Any, _pycnn.ConvTranspose2dShape] = {}
_pools: dict[Any, _pycnn.Pool2dShape] = {}
_pooled: dict[Any, _pycnn.ConvPoolShape] = {}
MOST = 1000  # shapes that are remembered


def convolution(
    x: tuple[int, ...], weight: tuple[int, ...], options: Options
) -> _pycnn.Conv2dShape:
    """The shape of all three directions."""
    key = x, weight, options
    shape = _convolutions.get(key)
    if shape is None:
        if len(_convolutions) >= MOST:
            _convolutions.clear()
        shape = _convolutions[key] = conv2d_shape("conv2d", x, weight, *options)
    return shape


def pooled(
    x: tuple[int, ...], weight: tuple[int, ...], options: Options, padding: str, relu: bool
) -> _pycnn.ConvPoolShape:
    """The same with a 2 x 2 max pool behind it; padding: "same" or "valid"."""
    key = x, weight, options, padding, relu
    shape = _pooled.get(key)
    if shape is None:
        if len(_pooled) >= MOST:
            _pooled.clear()
        conv = convolution(x, weight, options)
        shape = _pooled[key] = _pycnn.ConvPoolShape(conv, padding == "same", relu)
    return shape


def transposed(
    x: tuple[int, ...], weight: tuple[int, ...], options: Options
) -> _pycnn.ConvTranspose2dShape:
    """The shape of all three directions of a transposed convolution."""
    key = x, weight, options
    shape = _transposed.get(key)
    if shape is None:
        if len(_transposed) >= MOST:
            _transposed.clear()
        shape = _transposed[key] = conv_transpose2d_shape("conv_transpose2d", x, weight, *options)
    return shape


def pool2d(rule: Any, x: tuple[int, ...], options: Options) -> _pycnn.Pool2dShape:
    """The shape of a pool, whose options `rule` makes one of."""
    key = rule, x, options
    shape = _pools.get(key)
    if shape is None:
        if len(_pools) >= MOST:
            _pools.clear()
        shape = _pools[key] = rule("pool2d", x, *options)
    return shape


def max_pool2d(x: Array, shape: _pycnn.Pool2dShape, out: Array, indices: Array | None) -> None:
    """`ops.max_pool2d`, and the other maxima."""
    _pycnn.max_pool2d_forward(out, indices, x, shape)


def max_pool2d_backward(dy: Array, indices: Array, out: Array) -> None:
    """`ops.max_pool2d_backward`."""
    _pycnn.max_pool2d_backward(out, dy, indices)


def avg_pool2d(x: Array, shape: _pycnn.Pool2dShape, count_include_pad: bool, out: Array) -> None:
    """`ops.avg_pool2d`, and the other means."""
    _pycnn.avg_pool2d_forward(out, x, shape, count_include_pad)


def avg_pool2d_backward(
    dy: Array, shape: _pycnn.Pool2dShape, count_include_pad: bool, out: Array
) -> None:
    """`ops.avg_pool2d_backward`."""
    _pycnn.avg_pool2d_backward(out, dy, shape, count_include_pad)


def conv_transpose2d(
    x: Array,
    weight: Array,
    bias: Array | None,
    shape: _pycnn.ConvTranspose2dShape,
    activation: _pycnn.Activation,
    algorithm: str,
    out: Array,
) -> None:
    """`ops.conv_transpose2d`."""
    _pycnn.conv_transpose2d_forward(out, x, weight, bias, shape, activation, algorithm)


def conv_transpose2d_backward_input(
    dy: Array, weight: Array, shape: _pycnn.ConvTranspose2dShape, algorithm: str, out: Array
) -> None:
    """`ops.conv_transpose2d_backward_input`."""
    _pycnn.conv_transpose2d_backward_input(out, dy, weight, shape, algorithm)


def conv_transpose2d_backward_weight(
    x: Array, dy: Array, shape: _pycnn.ConvTranspose2dShape, algorithm: str, out: Array
) -> None:
    """`ops.conv_transpose2d_backward_weight`."""
    _pycnn.conv_transpose2d_backward_weight(out, x, dy, shape, algorithm)


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None,
    options: Options,
    out: Array,
    *,
    activation: _pycnn.Activation = NONE,
    algorithm: str = "auto",
    residual: Array | None = None,
) -> None:
    """`ops.conv2d`."""
    shape = convolution(x.shape, weight.shape, options)
    _pycnn.conv2d_forward(out, x, weight, bias, shape, activation, algorithm, residual)


def linear(x: Array, weight: Array, bias: Array | None, out: Array) -> None:
    """`ops.linear`."""
    _pycnn.linear(out, x, weight, bias, NONE)


def conv2d_backward_input(
    dy: Array, weight: Array, options: Options, out: Array, algorithm: str = "auto"
) -> None:
    """`ops.conv2d_backward_input`; out has the shape of x."""
    shape = convolution(out.shape, weight.shape, options)
    _pycnn.conv2d_backward_input(out, dy, weight, shape, algorithm)


def conv2d_backward_weight(
    x: Array, dy: Array, options: Options, out: Array, algorithm: str = "auto"
) -> None:
    """`ops.conv2d_backward_weight`; out has the shape of weight."""
    shape = convolution(x.shape, out.shape, options)
    _pycnn.conv2d_backward_weight(out, x, dy, shape, algorithm)


def conv2d_backward_bias(dy: Array, out: Array) -> None:
    """`ops.conv2d_backward_bias`."""
    _pycnn.conv2d_backward_bias(out, dy)


def conv2d_relu_backward(
    dy: Array,
    y: Array,
    x: Array,
    weight: Array,
    options: Options,
    out: tuple[Array, Array | None, Array | None],
) -> None:
    """`ops.conv2d_relu_backward`."""
    shape = convolution(x.shape, weight.shape, options)
    _pycnn.conv2d_relu_backward(*out, dy, y, x, weight, shape, "auto")


def conv_pool(
    x: Array, weight: Array, bias: Array | None, shape: _pycnn.ConvPoolShape, out: Array,
    where: Array | None,
) -> None:  # fmt: skip
    """`ops.conv_pool`."""
    _pycnn.conv_pool_forward(out, where, x, weight, bias, shape, "auto")


def conv_pool_backward(
    dy: Array,
    y: Array,
    where: Array,
    x: Array,
    weight: Array,
    shape: _pycnn.ConvPoolShape,
    out: tuple[Array, Array | None, Array | None],
) -> None:
    """`ops.conv_pool_backward`."""
    _pycnn.conv_pool_backward(*out, dy, y, where, x, weight, shape)


def matmul(
    a: Array, b: Array, out: Array, *, transpose_a: bool = False, transpose_b: bool = False
) -> None:
    """`ops.matmul`."""
    _pycnn.matmul(a, b, transpose_a, transpose_b, out)


def batch_norm(
    x: Array,
    kept: Array,
    running: tuple[Array, Array],
    momentum: float,
    eps: float,
    relu: bool,
    residual: Array | None,
    out: Array,
) -> None:
    """`ops.batch_norm`; kept: [4, C], weight and bias, to which mean and variance are added."""
    weight, bias, mean, var = kept
    _pycnn.batch_norm(out, mean, var, x, weight, bias, *running, momentum, eps, relu, residual)


def conv2d_norm(
    x: Array,
    weight: Array,
    bias: Array | None,
    kept: Array,
    running: tuple[Array, Array],
    momentum: float,
    eps: float,
    relu: bool,
    out: tuple[Array, Array],
) -> None:
    """`ops.conv2d_norm`; kept: [4, OC] as in `batch_norm`; out: y and z."""
    gamma, beta, mean, var = kept
    result = *out, mean, var
    _pycnn.conv2d_norm(*result, x, weight, bias, gamma, beta, *running, momentum, eps, relu)


def conv2d_norm_backward(
    dy: Array,
    z: Array,
    x: Array,
    weight: Array,
    kept: Array,
    eps: float,
    relu: bool,
    out: tuple[Array | None, Array, Array, Array],
) -> None:
    """`ops.conv2d_norm_backward`; kept: [4, OC] of `conv2d_norm`."""
    gamma, beta, mean, var = kept
    _pycnn.conv2d_norm_backward(*out, dy, z, x, weight, gamma, beta, mean, var, eps, relu)


def batch_norm_inference(
    x: Array,
    vectors: tuple[Array, Array, Array, Array],
    eps: float,
    relu: bool,
    residual: Array | None,
    out: Array,
) -> None:
    """`ops.batch_norm_inference`; vectors: weight, bias, mean, variance."""
    _pycnn.batch_norm_inference(out, x, *vectors, eps, relu, residual)


def batch_norm_backward(
    dy: Array,
    x: Array,
    kept: Array,
    eps: float,
    relu: bool,
    y: Array | None,
    residual_gradient: Array | None,
    out: tuple[Array | None, Array, Array],
) -> None:
    """`ops.batch_norm_backward`; kept: [4, C] of `batch_norm`."""
    weight, bias, mean, var = kept
    dx, dweight, dbias = out
    _pycnn.batch_norm_backward(
        dx, dweight, dbias, dy, x, weight, bias, mean, var, eps, relu, y, residual_gradient
    )


def combine(op: str, a: Array, b: Array, out: Array) -> None:
    """`ops.add`, `subtract`, `multiply` or `divide`; a and b may repeat beside out."""
    _pycnn.combine(out, a, b, op, NONE)


def sum_to(x: Array, op: str, other: Array | None, scale: float, out: Array) -> None:
    """`ops.sum_to`; out has the axes of x."""
    _pycnn.sum_to(out, x, op, other, scale)


def layer_norm(
    out: Array, kept: Array | None, x: Array, weight: Array, bias: Array | None, eps: float
) -> None:
    """`ops.layer_norm`; kept: [rows, 2] or None."""
    _pycnn.layer_norm(out, kept, x, weight, bias, eps)


def layer_norm_backward(
    dx: Array | None, dweight: Array, dbias: Array | None, dy: Array, x: Array, weight: Array,
    kept: Array,
) -> None:  # fmt: skip
    """`ops.layer_norm_backward`."""
    _pycnn.layer_norm_backward(dx, dweight, dbias, dy, x, weight, kept)


def group_norm(
    out: Array, kept: Array, x: Array, weight: Array, bias: Array, groups: int, eps: float
) -> None:
    """`ops.group_norm`; kept: [N, groups, 2]."""
    _pycnn.group_norm(out, kept, x, weight, bias, groups, eps)


def group_norm_backward(
    dx: Array | None, dweight: Array, dbias: Array, dy: Array, x: Array, weight: Array,
    kept: Array, groups: int,
) -> None:  # fmt: skip
    """`ops.group_norm_backward`."""
    _pycnn.group_norm_backward(dx, dweight, dbias, dy, x, weight, kept, groups)


def response_norm(
    out: Array, dy: Array | None, x: Array, size: int, alpha: float, beta: float, k: float
) -> None:
    """`ops.local_response_norm`, or with dy its backward."""
    _pycnn.response_norm(out, dy, x, size, alpha, beta, k)


def relu(x: Array, out: Array) -> None:
    """`ops.relu`."""
    _pycnn.relu(out, x)


def relu_backward(dy: Array, y: Array, out: Array) -> None:
    """`ops.relu_backward`."""
    _pycnn.relu_backward(out, dy, y)


def accumulate(total: Array, part: Array) -> None:
    """`ops.accumulate`."""
    _pycnn.accumulate(total, part)
