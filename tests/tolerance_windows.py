"""Bounds of transposed convolution and of adaptive pools, as `tolerance.py` has them."""

import numpy as np
import reference
import tolerance


def adaptive_avg_pool2d(x, output_size):
    return tolerance.gamma(x[0, :, :, 0].size + 2, x.dtype) * reference.adaptive_avg_pool2d(
        np.abs(x), output_size
    )


def adaptive_avg_pool2d_backward(dy, input_shape):
    k = dy[0, :, :, 0].size if len(dy) else 0
    magnitude = reference.adaptive_avg_pool2d_backward(np.abs(dy), input_shape)
    return tolerance.gamma(k + 3, dy.dtype) * magnitude


def conv_transpose2d(x, weight, bias=None, activation=None, **options):
    """A pixel gets each weight of its group at most once: KH * KW * C / groups, and the bias."""
    k = weight[:, :, 0].size // options.get("groups", 1)
    absolute = [None if a is None else np.abs(a) for a in (x, weight, bias)]
    error = tolerance.gamma(k + 2, x.dtype) * reference.conv_transpose2d(*absolute, **options)
    y = reference.conv_transpose2d(x, weight, bias, **options)
    return tolerance.activated(y, error, activation, x.dtype)


def conv_transpose2d_backward_input(dy, weight, input_shape, **options):
    magnitude = reference.conv_transpose2d_backward_input(
        np.abs(dy), np.abs(weight), input_shape, **options
    )
    return tolerance.gamma(weight[..., 0].size + 2, dy.dtype) * magnitude


def conv_transpose2d_backward_weight(x, dy, weight_shape, **options):
    """A weight acts once on every pixel of x."""
    magnitude = reference.conv_transpose2d_backward_weight(
        np.abs(x), np.abs(dy), weight_shape, **options
    )
    return tolerance.gamma(x[..., 0].size + 2, x.dtype) * magnitude
