"""The table of when one operator stands for several layers."""

from __future__ import annotations

import copy

import numpy as np

from pycnn.graph.fuse import FIRST, FOLDING, Pattern, register
from pycnn.layers.activation import Activation, ReLU
from pycnn.layers.arithmetic import Add
from pycnn.layers.base import Layer
from pycnn.layers.conv import Conv1d, Conv2d, Convolution
from pycnn.layers.conv_transpose import ConvTranspose2d
from pycnn.layers.fused import (
    AddActivation,
    ConvActivation,
    ConvAdd,
    ConvPool,
    LinearActivation,
)
from pycnn.layers.fused_norm import ConvNorm, NormActivation, NormAdd, folded
from pycnn.layers.fused_pointwise import PointwiseNorm
from pycnn.layers.linear import Linear
from pycnn.layers.norm import BatchNorm1d, BatchNorm2d, ChannelAffine, Channelwise
from pycnn.layers.pool import MaxPool2d
from pycnn.ops.arrays import Array


def fits(pool: MaxPool2d) -> bool:
    """Whether it is a 2 x 2 pool of stride 2 that begins at the first pixel."""
    if not pool.kernel_size == pool.stride == (2, 2) or pool.dilation != (1, 1):
        return False
    padding = pool.padding
    return padding in (0, (0, 0)) or (
        isinstance(padding, str) and padding.lower() in ("same", "valid")
    )


def fold(conv: Conv2d, norm: Channelwise) -> Conv2d:
    """norm(conv(x)) of eval mode as one convolution of its own."""
    return _convolution(conv, *folded(conv, norm))


def _convolution(conv: Conv2d, weight: Array, bias: Array) -> Conv2d:
    one = Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, **conv.geometry, rng=0)
    assert one.bias is not None
    one.weight.data, one.bias.data = weight.astype(np.float32), bias.astype(np.float32)
    return one.eval()


def fold_into(conv: Convolution, norm: Channelwise) -> Convolution:
    """The same of a Conv1d or ConvTranspose2d."""
    scale, shift = norm.folded()
    if conv.bias is not None:
        shift = shift + conv.bias.data * scale
    one = copy.deepcopy(conv)
    one.own(conv.scaled(scale).astype(np.float32), True)
    assert one.bias is not None
    one.bias.data = shift.astype(np.float32)
    return one.eval()


def fold_before(norm: Channelwise, conv: Conv2d) -> Conv2d:
    """conv(norm(x)) of eval mode: w' = w * s[c], b' = b + sum over taps and c of w * t[c]."""
    scale, shift = norm.folded()
    KH, KW, C, OC = conv.weight.data.shape
    grouped = conv.weight.data.reshape(KH, KW, C, conv.groups, OC // conv.groups)
    per_group = (v.reshape(conv.groups, C).T[:, :, None] for v in (scale, shift))  # [C, groups, 1]
    s, t = per_group
    bias = (grouped * t).sum(axis=(0, 1, 2)).reshape(OC)
    if conv.bias is not None:
        bias = bias + conv.bias.data
    return _convolution(conv, (grouped * s).reshape(KH, KW, C, OC), bias)


def _no_rim(norm: Channelwise, conv: Conv2d) -> bool:
    """Padding is zeros behind the norm: it may not be shifted."""
    bare = conv.padding in (0, (0, 0), ((0, 0), (0, 0)), "valid")
    return _auto(conv) and (bare or not norm.folded()[1].any())


def fold_linear(linear: Linear, norm: Channelwise) -> Linear:
    """norm(linear(x)) of eval mode."""
    scale, shift = norm.folded()
    if linear.bias is not None:
        shift = shift + linear.bias.data * scale
    return _linear(linear.weight.data * scale, shift)


def fold_before_linear(norm: Channelwise, linear: Linear) -> Linear:
    """linear(norm(x)) of eval mode."""
    scale, shift = norm.folded()
    bias = (linear.weight.data * shift[:, None]).sum(axis=0)
    if linear.bias is not None:
        bias = bias + linear.bias.data
    return _linear(linear.weight.data * scale[:, None], bias)


def _linear(weight: Array, bias: Array) -> Linear:
    one = Linear(*weight.shape, rng=0)
    assert one.bias is not None
    one.weight.data, one.bias.data = weight.astype(np.float32), bias.astype(np.float32)
    return one.eval()


def _auto(conv: Conv2d, *_: Layer) -> bool:
    return conv.algorithm == "auto"


def _pointwise(conv: Conv2d, *_: Layer) -> bool:
    """Whether each output pixel reads one pixel of its own, through all channels."""
    return (
        conv.algorithm == "auto"
        and conv.kernel_size == conv.stride == (1, 1)
        and conv.groups == 1
        and (conv.padding in (0, (0, 0)) or isinstance(conv.padding, str))
    )


def _keeps_order(conv: Conv2d, pool: MaxPool2d, norm: BatchNorm2d) -> bool:
    """max(x) * s = max(x * s) only where no s is negative."""
    return bool(np.all(norm.weight.data >= 0))


def _from_y(*layers: Layer) -> bool:
    """Whether the activation's gradient follows from y: nobody keeps what it got."""
    return all(layer.fused.reads == "y" for layer in layers if isinstance(layer, Activation))


def _auto_from_y(conv: Conv2d, *more: Layer) -> bool:
    return _auto(conv) and _from_y(*more)


COMPILED, EVAL = frozenset({"compiled"}), frozenset({"eval"})
TRAINING, FIXED = frozenset({"training"}), COMPILED | EVAL
# What a norm with fixed statistics does goes into the weights before it, or behind it.
register(
    Pattern((Conv2d, BatchNorm2d), lambda c, n: [fold(c, n)], modes=COMPILED),
    Pattern((Conv2d, MaxPool2d, BatchNorm2d), lambda c, p, n: [fold(c, n), p], _keeps_order,
            modes=COMPILED),
    Pattern((Conv2d, ChannelAffine), lambda c, n: [fold(c, n)], modes=COMPILED),
    Pattern((ChannelAffine, Conv2d), lambda n, c: [fold_before(n, c)], _no_rim, COMPILED),
    Pattern((BatchNorm2d, Conv2d), lambda n, c: [fold_before(n, c)], _no_rim, COMPILED),
    *(Pattern((Linear, norm), lambda m, n: [fold_linear(m, n)], modes=COMPILED)
      for norm in (BatchNorm1d, ChannelAffine)),
    *(Pattern((norm, Linear), lambda n, m: [fold_before_linear(n, m)], modes=COMPILED)
      for norm in (BatchNorm1d, ChannelAffine)),
    *(Pattern((conv, norm), lambda c, n: [fold_into(c, n)], modes=COMPILED)
      for conv, norm in ((Conv1d, BatchNorm1d), (ConvTranspose2d, BatchNorm2d))),
    phase=FOLDING,
)  # fmt: skip
# Before all others.
register(
    Pattern((Conv2d, BatchNorm2d), lambda c, n: [ConvNorm(c, n)], _auto, EVAL),
    Pattern((Conv2d, BatchNorm2d, Activation), lambda c, n, f: [ConvNorm(c, n, f)], _auto, EVAL),
    Pattern((Conv2d, BatchNorm2d, Add), lambda c, n, a: [ConvNorm(c, n, a)], _auto, EVAL),
    Pattern((Conv2d, BatchNorm2d, Add, Activation), lambda c, n, a, f: [ConvNorm(c, n, a, f)],
            _auto, EVAL),
    Pattern((Conv2d, BatchNorm2d), lambda c, n: [PointwiseNorm(c, n)], _pointwise, TRAINING),
    Pattern((Conv2d, BatchNorm2d, Activation), lambda c, n, f: [PointwiseNorm(c, n, f)],
            _pointwise, TRAINING),
    # The addition in one pass with the norm is more.
    Pattern((Conv2d, BatchNorm2d, Add, Activation), lambda c, n, a, f: [c, NormAdd(n, a, f)],
            lambda *layers: _pointwise(*layers) and _from_y(*layers), TRAINING),
    # Before relu and pool change places: one pass less is more than relu on a quarter.
    *(Pattern((norm, Activation), lambda n, f: [NormActivation(n, f)])
      for norm in (BatchNorm2d, BatchNorm1d)),
    # relu never decreases, so max(relu(x)) = relu(max(x)). A positive (or NaN) maximum is the same
    # first pixel before and after relu, so its gradient goes to the same place. All other windows
    # give zero, and no gradient: relu's mask is zero on all their pixels. Equal in every bit, but
    # for the sign of a zero where a window holds -0.0; on a quarter of the pixels.
    Pattern((ReLU, MaxPool2d), lambda r, p: [p, r]),
    phase=FIRST,
)  # fmt: skip
register(
    Pattern((Conv2d, ReLU, MaxPool2d), lambda c, r, p: [ConvPool(c, p, r)],
            lambda c, r, p: _auto(c) and fits(p)),
    Pattern((Conv2d, MaxPool2d, ReLU), lambda c, p, r: [ConvPool(c, p, r)],
            lambda c, p, r: _auto(c) and fits(p)),
    Pattern((Conv2d, MaxPool2d), lambda c, p: [ConvPool(c, p, None)],
            lambda c, p: _auto(c) and fits(p)),
    Pattern((Conv2d, Add, Activation), lambda c, a, f: [ConvAdd(c, a, f)], _auto, FIXED),
    Pattern((Conv2d, Add, Activation), lambda c, a, f: [ConvAdd(c, a, f)], _auto_from_y, TRAINING),
    Pattern((Conv2d, Add), lambda c, a: [ConvAdd(c, a)], _auto, FIXED),
    Pattern((Conv2d, Activation), lambda c, f: [ConvActivation(c, f)], _auto, FIXED),
    Pattern((Conv2d, Activation), lambda c, f: [ConvActivation(c, f)], _auto_from_y, TRAINING),
    Pattern((BatchNorm2d, Add, Activation), lambda n, a, f: [NormAdd(n, a, f)], modes=FIXED),
    Pattern((BatchNorm2d, Add, Activation), lambda n, a, f: [NormAdd(n, a, f)], _from_y, TRAINING),
    Pattern((Add, Activation), lambda a, f: [AddActivation(a, f)], modes=FIXED),
    Pattern((Add, Activation), lambda a, f: [AddActivation(a, f)], _from_y, TRAINING),
    *(Pattern((kind, Activation), lambda m, f: [LinearActivation(m, f)], modes=COMPILED)
      for kind in (Linear, Conv1d, ConvTranspose2d)),
)  # fmt: skip
