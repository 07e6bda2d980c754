"""Bounds of layer, group and local response normalisation: part of `tolerance.py`."""

import numpy as np
import reference
from tolerance import TINY, gamma


def _normalised(x, weight, bias, groups, eps):
    """(y, kept): sums over a group; the error of a mean enters the variance squared."""
    z = np.float64(x).reshape(len(x), -1, groups, x.shape[-1] // groups)
    M = z[0, :, 0].size
    mean, inverse = np.moveaxis(reference.group_norm(x, weight, bias, groups, eps)[1], -1, 0)
    var = 1 / inverse**2
    mean_bound = gamma(M + 4, x.dtype) * np.abs(z).mean(axis=(1, 3))
    relative = (gamma(M + 10, x.dtype) * var + mean_bound**2) / (2 * var) + gamma(8, x.dtype)
    distance = np.abs(z - mean[:, None, :, None])
    spread = inverse[:, None, :, None] * (
        (relative + gamma(4, x.dtype))[:, None, :, None] * distance + mean_bound[:, None, :, None]
    )
    size = inverse[:, None, :, None] * distance
    y = np.abs(np.float64(weight)) * (spread + gamma(2, x.dtype) * size).reshape(x.shape)
    kept = np.stack([mean_bound, inverse * relative], axis=-1)
    return y + gamma(2, x.dtype) * np.abs(np.float64(bias)), kept


def _gradients(dy, x, weight, kept, groups):
    """(dx, dweight, dbias): sums over a group, and over all rows."""
    z, kept = np.float64(x).reshape(len(x), -1, groups, x.shape[-1] // groups), np.float64(kept)
    n = np.abs((z - kept[:, None, :, None, 0]) * kept[:, None, :, None, 1])
    g = np.abs(np.float64(dy) * weight).reshape(z.shape)
    size = g + g.mean(axis=(1, 3), keepdims=True) + n * (g * n).mean(axis=(1, 3), keepdims=True)
    dx = gamma(z[0, :, 0].size + 16, x.dtype) * size * kept[:, None, :, None, 1]
    axes, rows = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    dy, rounding = np.abs(np.float64(dy)), gamma(rows + 16, x.dtype)
    dweight = rounding * (dy * n.reshape(x.shape)).sum(axis=axes)
    return dx.reshape(x.shape), dweight, rounding * dy.sum(axis=axes)


def group_norm(x, weight, bias, num_groups, eps=1e-5):
    return _normalised(x, weight, bias, num_groups, eps)


def group_norm_backward(dy, x, weight, kept, num_groups):
    return _gradients(dy, x, weight, kept, num_groups)


def layer_norm(x, weight, bias=None, eps=1e-5):
    rows = np.reshape(x, (-1, x.shape[-1]))
    y, kept = _normalised(rows, weight, 0.0 if bias is None else bias, 1, eps)
    return y.reshape(x.shape), kept[:, 0]


def layer_norm_backward(dy, x, weight, kept):
    rows = np.reshape(dy, (-1, x.shape[-1])), np.reshape(x, (-1, x.shape[-1]))
    dx, dweight, dbias = _gradients(*rows, weight, kept[:, None], 1)
    return dx.reshape(x.shape), dweight, dbias


def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0):
    """The sum of squares, its factor, the power."""
    y = np.abs(reference.local_response_norm(x, size, alpha, beta, k))
    return (beta * gamma(size + 4, x.dtype) + gamma(8, x.dtype)) * y + TINY


def local_response_norm_backward(dy, x, size, alpha=1e-4, beta=0.75, k=1.0):
    """As before, and a sum over the windows of a channel."""
    dy, x = np.abs(dy), np.abs(x)
    own = dy * np.abs(reference.response_power(x, size, alpha, beta, k))
    others = own - reference.local_response_norm_backward(dy, x, size, alpha, beta, k)
    return gamma(2 * size + 20, x.dtype) * (beta + 1) * (own + others) + TINY
