"""Convolution: options become a shape, arrays become contiguous, C++ does the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import _pycnn
import numpy as np
import numpy.typing as npt

from pycnn._runtime.checks import is_choice
from pycnn.ops.activations import ActivationLike, parse
from pycnn.ops.arrays import (
    Array,
    Padding,
    Pair,
    Result,
    algorithm_name,
    check_apart_nchw,
    check_size,
    contiguous,
    count,
    four_sided,
    is_nchw,
    nhwc_shape,
    pair,
    shape4,
    to_nhwc,
)

_X, _WEIGHT = "[N, H, W, C]", "[KH, KW, C/groups, OC]"


def set_precision(mode: str) -> None:
    """What convolutions may do for speed, process-wide: "fast" (the default) or "exact".

    "fast" lets `algorithm="auto"` and "winograd" use F(4x4, 3x3), whose error against float64 is
    two to three times that of direct convolution. "exact" keeps both to F(2x2, 3x3), whose error is
    no larger than that of direct convolution (docs/kernels.md has the figures). Raises ValueError
    for another mode.
    """
    if not is_choice(mode, ("fast", "exact")):
        raise ValueError(f'set_precision: mode is {mode!r}; expected "fast" or "exact".')
    _pycnn.set_exact(mode == "exact")


def get_precision() -> str:
    """The last `set_precision`: "fast" or "exact"."""
    return "exact" if _pycnn.is_exact() else "fast"


_known_shapes: dict[tuple[tuple[int, ...], tuple[int, ...], str], _pycnn.Conv2dShape] = {}
_MOST_KNOWN = 1000


def conv2d_shape(
    op: str,
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    nchw: bool = False,
) -> _pycnn.Conv2dShape:
    """The shape of all three directions; x_shape is NHWC, nchw says that the caller's x is not."""
    # A network asks for the same few shapes in every step: 2 us instead of 20. repr tells True
    # from 1, which are equal as keys; what is refused is not remembered.
    key = x_shape, weight_shape, repr((stride, padding, dilation, groups))
    shape = _known_shapes.get(key)
    if shape is None:
        shape = _pycnn.Conv2dShape(
            x_shape,
            weight_shape,
            pair(stride, op, "stride"),
            four_sided(padding, op),
            pair(dilation, op, "dilation"),
            count(groups, op, "groups"),
            nchw,
        )
        if len(_known_shapes) >= _MOST_KNOWN:
            _known_shapes.clear()
        _known_shapes[key] = shape
    return shape


def conv2d(
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    stride: Pair = 1,
    padding: Padding = "valid",
    dilation: Pair = 1,
    groups: int = 1,
    activation: ActivationLike = None,
    residual: npt.ArrayLike | None = None,
    data_format: str = "NHWC",
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Two-dimensional convolution (cross-correlation), as tf.nn.conv2d, with its epilogue fused.

    x: [N, H, W, C] ([N, C, H, W] with data_format="NCHW"); weight: [KH, KW, C/groups, OC];
    bias: [OC] or None; residual: of y's shape, added before the activation, or None; `out`
    may be the residual itself. Returns y: [N, OH, OW, OC],

        y[n, oh, ow, oc] = bias[oc] + sum over kh, kw, c of
            x[n, oh*stride_h + kh*dilation_h - top, ow*stride_w + kw*dilation_w - left, c]
            * weight[kh, kw, c, oc]
        OH = (H + top + bottom - dilation_h*(KH-1) - 1) // stride_h + 1

    stride, dilation: an int, (h, w) or [1, h, w, 1]. padding: "valid" (none), "same"
    (TensorFlow's: OH = ceil(H / stride_h), an odd pixel comes after), an int, (h, w), or
    ((top, bottom), (left, right)), in pixels of zeros. activation: None, or the name of a
    function of `ops`, "relu", "relu6", "clip", "leaky_relu", "elu", "hard_sigmoid", "hard_swish",
    "sigmoid", "silu", "tanh", "gelu", "gelu_tanh", "softplus", "exp", "erf", "sqrt", "abs" or
    "log"; with its numbers a tuple, as ("leaky_relu", 0.1) or ("clip", -1, 1).

    algorithm: "auto", "direct", "winograd" (3 x 3 with stride 1, dilation 1, one group or groups of
    16 or 32 channels), "depthwise" (groups = C = OC), "grouped" (groups of at most 32 channels),
    "few_channels" (C <= 4, one group), "im2col" or "naive". `explain_conv2d` says what "auto"
    takes, `set_precision` how exact it is. "auto" may take another algorithm for a few images than
    for many, so an image's last bits may depend on its batch; a named algorithm's do not. float64
    runs "naive" only. Products with zeros of the padding are skipped where that is faster, so an
    infinite weight there may give NaN or nothing. "winograd" may spread a NaN or Inf over its tile
    of 2 x 2 or 4 x 4 outputs.

    Raises ValueError for shapes or options that do not fit, TypeError for types.
    """
    op = "conv2d"
    nchw = is_nchw(data_format, op)
    x_array, w_array = to_nhwc(x, nchw, op, "x"), contiguous(weight, op, "weight")
    bias_array = None if bias is None else contiguous(bias, op, "bias")
    shape = conv2d_shape(op, x_array.shape, w_array.shape, stride, padding, dilation, groups, nchw)
    result = Result(out, shape.output_shape, x_array.dtype, op, nchw)
    check_apart_nchw(out, nchw, op, x=np.asarray(x), weight=w_array, bias=bias_array)
    function, how = parse(activation, op), algorithm_name(algorithm, op)
    other = None if residual is None else to_nhwc(residual, nchw, op, "residual")
    _pycnn.conv2d_forward(result.array, x_array, w_array, bias_array, shape, function, how, other)
    return result.finish()


def conv2d_backward_input(
    dy: npt.ArrayLike,
    weight: npt.ArrayLike,
    input_shape: Sequence[int],
    *,
    stride: Pair = 1,
    padding: Padding = "valid",
    dilation: Pair = 1,
    groups: int = 1,
    data_format: str = "NHWC",
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Gradient of `conv2d` with respect to x: the adjoint, <conv2d(x, w), dy> = <x, dx>.

    dy: [N, OH, OW, OC]; weight: [KH, KW, C/groups, OC]; input_shape: that of x, in the layout of
    data_format; options as in the forward call. Returns dx, of input_shape,

        dx[n, h, w, c] = sum of dy[n, oh, ow, oc] * weight[kh, kw, c, oc] over the oh, ow, kh, kw
                         with oh*stride_h + kh*dilation_h - top = h (and w alike)

    Raises ValueError for shapes or options that do not fit, TypeError for types.
    """
    op = "conv2d_backward_input"
    nchw = is_nchw(data_format, op)
    dy_array, w_array = to_nhwc(dy, nchw, op, "dy"), contiguous(weight, op, "weight")
    x_shape = nhwc_shape(shape4(input_shape, op, "input_shape", _X), nchw)
    shape = conv2d_shape(op, x_shape, w_array.shape, stride, padding, dilation, groups, nchw)
    result = Result(out, shape.input_shape, dy_array.dtype, op, nchw)
    check_apart_nchw(out, nchw, op, dy=np.asarray(dy), weight=w_array)
    how = algorithm_name(algorithm, op)
    _pycnn.conv2d_backward_input(result.array, dy_array, w_array, shape, how)
    return result.finish()


def conv2d_backward_weight(
    x: npt.ArrayLike,
    dy: npt.ArrayLike,
    weight_shape: Sequence[int],
    *,
    stride: Pair = 1,
    padding: Padding = "valid",
    dilation: Pair = 1,
    groups: int = 1,
    data_format: str = "NHWC",
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Gradient of `conv2d` with respect to weight: <conv2d(x, w), dy> = <w, dweight>.

    x: [N, H, W, C]; dy: [N, OH, OW, OC]; weight_shape: (KH, KW, C/groups, OC); options as in the
    forward call. Returns dweight, of weight_shape,

        dweight[kh, kw, c, oc] = sum over n, oh, ow of
            x[n, oh*stride_h + kh*dilation_h - top, ow*stride_w + kw*dilation_w - left, c]
            * dy[n, oh, ow, oc]

    Raises ValueError for shapes or options that do not fit, TypeError for types.
    """
    op = "conv2d_backward_weight"
    nchw = is_nchw(data_format, op)
    x_array, dy_array = to_nhwc(x, nchw, op, "x"), to_nhwc(dy, nchw, op, "dy")
    w_shape = shape4(weight_shape, op, "weight_shape", _WEIGHT)
    shape = conv2d_shape(op, x_array.shape, w_shape, stride, padding, dilation, groups, nchw)
    result = Result(out, shape.weight_shape, x_array.dtype, op, False)
    how = algorithm_name(algorithm, op)
    _pycnn.conv2d_backward_weight(result.array, x_array, dy_array, shape, how)
    return result.finish()


def conv2d_backward_bias(
    dy: npt.ArrayLike, *, data_format: str = "NHWC", out: Array | None = None
) -> Array:
    """Gradient of `conv2d` with respect to bias: dbias[oc] = sum of dy[n, oh, ow, oc].

    The sum runs over n, oh, ow. dy: [N, OH, OW, OC]. Returns dbias: [OC].
    Raises ValueError for a dy without four axes.
    """
    op = "conv2d_backward_bias"
    dy_array = to_nhwc(dy, is_nchw(data_format, op), op, "dy")
    result = Result(out, dy_array.shape[-1:], dy_array.dtype, op, False)
    _pycnn.conv2d_backward_bias(result.array, dy_array)
    return result.finish()


def conv2d_output_shape(
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    stride: Pair = 1,
    padding: Padding = "valid",
    dilation: Pair = 1,
    groups: int = 1,
) -> tuple[int, int, int, int]:
    """The shape (N, OH, OW, OC) of `conv2d`'s result, or the ValueError that it would raise."""
    op = "conv2d"
    x_shape = shape4(input_shape, op, "input_shape", _X)
    w_shape = shape4(weight_shape, op, "weight_shape", _WEIGHT)
    shape = conv2d_shape(op, x_shape, w_shape, stride, padding, dilation, groups)
    check_size(shape.output_shape, op)
    return shape.output_shape


@dataclass(frozen=True)
class Conv2dExplanation:
    """What `algorithm="auto"` does with one shape; print it, or read the three names."""

    forward: str
    backward_input: str
    backward_weight: str
    reasons: tuple[str, str, str]
    costs: tuple[dict[str, float], dict[str, float], dict[str, float]]  # the chosen one has 1.0
    output_shape: tuple[int, int, int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    flop: float

    def __str__(self) -> str:
        """A line on the shape; for each direction what, why, and the costs that were compared."""
        names = ("forward", "backward_input", "backward_weight")
        chosen = (self.forward, self.backward_input, self.backward_weight)
        head = (
            f"y {self.output_shape} [N, OH, OW, OC], padding ((top, bottom), (left, right)) = "
            f"{self.padding}, {self.flop * 1e-6:.3f} MFLOP a direction"
        )
        lines = [head]
        for name, what, why, costs in zip(names, chosen, self.reasons, self.costs, strict=True):
            others = sorted((cost, other) for other, cost in costs.items() if other != what)
            compared = ", ".join(
                f"{other} {cost:.3g}" if cost < 1e6 else f"{other} never" for cost, other in others
            )
            lines.append(f"{name:16}{what}: {why} (by cost: {what} 1, {compared})")
        return "\n".join(lines)


def explain_conv2d(
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    stride: Pair = 1,
    padding: Padding = "valid",
    dilation: Pair = 1,
    groups: int = 1,
    data_format: str = "NHWC",
) -> Conv2dExplanation:
    """Which algorithm "auto" takes in each direction for float32, and why.

    input_shape: that of x; weight_shape: (KH, KW, C/groups, OC); options as in `conv2d`. The rules
    depend on the shape alone, so the answer is the same on every machine. Raises ValueError where
    `conv2d` does.
    """
    op = "explain_conv2d"
    nchw = is_nchw(data_format, op)
    x_shape = nhwc_shape(shape4(input_shape, op, "input_shape", _X), nchw)
    w_shape = shape4(weight_shape, op, "weight_shape", _WEIGHT)
    shape = conv2d_shape(op, x_shape, w_shape, stride, padding, dilation, groups, nchw)
    check_size(shape.output_shape, op)
    choices = [shape.choice(d) for d in ("forward", "backward_input", "backward_weight")]
    return Conv2dExplanation(
        forward=choices[0][0],
        backward_input=choices[1][0],
        backward_weight=choices[2][0],
        reasons=(choices[0][1], choices[1][1], choices[2][1]),
        costs=(choices[0][2], choices[1][2], choices[2][2]),
        output_shape=shape.output_shape,
        padding=shape.padding,
        flop=shape.flop,
    )
