"""Every operator of pycnn once more: float64 loops, slow and obvious, independent of pycnn.

Convolutions and pools: window_reference.py.
"""

import numpy as np
from activation_reference import activated, relu
from arithmetic_reference import *  # noqa: F403
from augment_reference import augment_images  # noqa: F401
from loss_reference import *  # noqa: F403
from moves_reference import (  # noqa: F401
    channel_shuffle,
    crop,
    depth_to_space,
    pad,
    permute,
    slice_axis,
    space_to_depth,
    split,
)
from norm_reference import *  # noqa: F403
from resize_reference import pad_backward, resize, resize_backward  # noqa: F401
from window_reference import *  # noqa: F403


def matmul(a, b, transpose_a=False, transpose_b=False):
    """c[i, j] = sum over p of a[i, p] * b[p, j]."""
    a, b = np.float64(a.T if transpose_a else a), np.float64(b.T if transpose_b else b)
    c = np.zeros((a.shape[0], b.shape[1]))
    for p in range(a.shape[1]):
        c += np.outer(a[:, p], b[p])
    return c


def linear(x, weight, bias=None, activation=None):
    """activation(x weight + bias)."""
    y = matmul(x, weight)
    return activated(y if bias is None else y + np.float64(bias), activation)


def relu_backward(dy, y):
    """Dy where y = relu(x) is positive, else 0."""
    return np.where(np.float64(y) > 0, np.float64(dy), 0.0)


def adam_step(param, grad, m, v, step, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    """(param, m, v) after one step of Kingma & Ba's algorithm 1, with AdamW's decoupled decay."""
    param, grad, m, v = map(np.float64, (param, grad, m, v))
    param = param - lr * weight_decay * param
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad**2
    m_hat = m / (1 - beta1**step)
    v_hat = v / (1 - beta2**step)
    return param - lr * m_hat / (np.sqrt(v_hat) + eps), m, v


def sgd_step(param, grad, velocity, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    """(param, velocity) after one step, as in PyTorch: the decay is part of the gradient."""
    param, grad, velocity = map(np.float64, (param, grad, velocity))
    grad = grad + weight_decay * param
    velocity = momentum * velocity + grad
    return param - lr * (grad + momentum * velocity if nesterov else velocity), velocity


def add_bias(y, bias):
    """Y + bias over the last axis."""
    return np.float64(y) + np.float64(bias)


def accumulate(total, part):
    """Total + part."""
    return np.float64(total) + np.float64(part)


def gather_images(images, indices, scale=None, mean=0.0, std=1.0):
    """(image * scale - mean) / std of these indices; scale is 1/255 for bytes, else 1."""
    if scale is None:
        scale = 1 / 255 if images.dtype == np.uint8 else 1.0
    y = np.zeros((len(indices), *images.shape[1:]))
    for row, index in enumerate(indices):
        y[row] = (np.float64(images[index]) * scale - np.float64(mean)) / np.float64(std)
    return y


def rmsprop_step(
    param, grad, square, buffer, lr, alpha=0.99, eps=1e-8, momentum=0.0, weight_decay=0.0
):
    """(param, square, buffer) after one step, as in PyTorch, not centred."""
    param, grad, square, buffer = map(np.float64, (param, grad, square, buffer))
    grad = grad + weight_decay * param
    square = alpha * square + (1 - alpha) * grad**2
    buffer = momentum * buffer + grad / (np.sqrt(square) + eps)
    return param - lr * buffer, square, buffer


def batch_norm_inference(x, weight, bias, mean, var, eps=1e-5, activation=None):
    """(x - mean) / sqrt(var + eps) * weight + bias, channel by channel."""
    x, weight, bias, mean, var = map(np.float64, (x, weight, bias, mean, var))
    y = np.zeros(x.shape)
    for c in range(x.shape[-1]):
        y[..., c] = (x[..., c] - mean[c]) / np.sqrt(var[c] + eps) * weight[c] + bias[c]
    return relu(y) if activation == "relu" else y


def batch_norm(x, weight, bias, eps=1e-5, activation=None):
    """(y, mean, biased variance)."""
    rows = np.float64(x).reshape(-1, x.shape[-1])
    mean = rows.sum(axis=0) / len(rows)
    var = ((rows - mean) ** 2).sum(axis=0) / len(rows)
    return batch_norm_inference(x, weight, bias, mean, var, eps, activation), mean, var


def batch_norm_backward(dy, x, weight, bias, mean, var, eps=1e-5, activation=None):
    """(dx, dweight, dbias): x reaches y by itself, through mean and through var."""
    y = batch_norm_inference(x, weight, bias, mean, var, eps)
    dy, x, weight, mean, var = map(np.float64, (dy, x, weight, mean, var))
    g = relu_backward(dy, y) if activation == "relu" else dy
    axes, M = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    inverse = 1 / np.sqrt(var + eps)
    dz = g * weight  # z = (x - mean) * inverse
    dvar = (dz * (x - mean)).sum(axis=axes) * -(inverse**3) / 2
    dmean = (dz * -inverse).sum(axis=axes)
    dx = dz * inverse + dvar * 2 * (x - mean) / M + dmean / M
    return dx, (g * (x - mean) * inverse).sum(axis=axes), g.sum(axis=axes)


def _mix32(h):
    h = (h ^ (h >> 16)) * 0x7FEB352D % 2**32
    h = (h ^ (h >> 15)) * 0x846CA68B % 2**32
    return h ^ (h >> 16)


def _mix64(z):
    z = (z + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def dropout_draws(size, seed, calls=0):
    """The draws of all elements, multiples of 2^-24 in [0, 1)."""
    key = _mix64(_mix64(seed) ^ calls)
    low, high = key % 2**32, key >> 32
    draws = [_mix32(_mix32((i + low) % 2**32) ^ high) >> 8 for i in range(size)]
    return np.array(draws, np.float64).reshape(size) / 2**24


def dropout(x, p, seed, calls=0):
    """X times 1 / (1 - p) where the draw is at least p, else times 0."""
    keep = dropout_draws(x.size, seed, calls).reshape(x.shape) >= p
    return np.float64(x) * keep / (1 - p)


def dropout2d(x, p, seed, calls=0):
    """One draw for each image and channel."""
    N, _, _, C = x.shape
    keep = dropout_draws(N * C, seed, calls).reshape(N, 1, 1, C) >= p
    return np.float64(x) * keep / (1 - p)
