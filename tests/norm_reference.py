"""Layer, group and local response normalisation: float64 loops; part of `reference.py`."""

import numpy as np


def _groups(x, groups):
    """[N, ..., C] -> [N, pixels, groups, C / groups]."""
    return np.float64(x).reshape(len(x), -1, groups, x.shape[-1] // groups)


def group_norm(x, weight, bias, num_groups, eps=1e-5):
    """(y, kept): kept[n, g] = mean and 1 / sqrt(var + eps) of the group."""
    z = _groups(x, num_groups)
    mean = z.mean(axis=(1, 3))
    var = ((z - mean[:, None, :, None]) ** 2).mean(axis=(1, 3))
    inverse = 1 / np.sqrt(var + eps)
    normalised = ((z - mean[:, None, :, None]) * inverse[:, None, :, None]).reshape(x.shape)
    return normalised * np.float64(weight) + bias, np.stack([mean, inverse], axis=-1)


def group_norm_backward(dy, x, weight, kept, num_groups):
    """(dx, dweight, dbias): x reaches y by itself, through mean and through var."""
    z, kept = _groups(x, num_groups), np.float64(kept)
    mean, inverse = kept[:, None, :, None, 0], kept[:, None, :, None, 1]
    n = (z - mean) * inverse
    g = _groups(np.float64(dy) * weight, num_groups)
    dn = g - g.mean(axis=(1, 3), keepdims=True) - n * (g * n).mean(axis=(1, 3), keepdims=True)
    axes = tuple(range(x.ndim - 1))
    dy = np.float64(dy)
    return (dn * inverse).reshape(x.shape), (dy * n.reshape(x.shape)).sum(axis=axes), dy.sum(axes)


def layer_norm(x, weight, bias=None, eps=1e-5):
    """Each row is an image of one group."""
    rows = np.reshape(x, (-1, x.shape[-1]))
    y, kept = group_norm(rows, weight, 0.0 if bias is None else bias, 1, eps)
    return y.reshape(x.shape), kept[:, 0]


def layer_norm_backward(dy, x, weight, kept):
    C = x.shape[-1]
    rows = np.reshape(dy, (-1, C)), np.reshape(x, (-1, C))
    dx, dweight, dbias = group_norm_backward(*rows, weight, kept[:, None], 1)
    return dx.reshape(x.shape), dweight, dbias


def _window(c, size, C):
    """The channels that channel c sees."""
    return range(max(c - size // 2, 0), min(c + (size - 1) // 2, C - 1) + 1)


def _denominators(x, size, alpha, k):
    x = np.float64(x)
    d = np.full(x.shape, float(k))
    for c in range(x.shape[-1]):
        for i in _window(c, size, x.shape[-1]):
            d[..., c] += alpha / size * x[..., i] ** 2
    return d


def response_power(x, size, alpha, beta, k):
    """What each number is multiplied with."""
    return _denominators(x, size, alpha, k) ** -beta


def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0):
    """X / (k + alpha / size * sum of x^2 over the window)^beta."""
    return np.float64(x) * response_power(x, size, alpha, beta, k)


def local_response_norm_backward(dy, x, size, alpha=1e-4, beta=0.75, k=1.0):
    dy, x64 = np.float64(dy), np.float64(x)
    d = _denominators(x, size, alpha, k)
    dx = dy * d**-beta
    for c in range(x.shape[-1]):
        for i in _window(c, size, x.shape[-1]):  # y[c] divides by what x[i] gives
            share = dy[..., c] * x64[..., c] * -beta * d[..., c] ** (-beta - 1)
            dx[..., i] += share * 2 * alpha / size * x64[..., i]
    return dx
