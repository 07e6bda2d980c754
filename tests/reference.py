"""Every operator of pycnn once more: float64 loops, slow and obvious, independent of pycnn.

Images are [N, H, W, C], weights [KH, KW, C / groups, OC]. `stride`, `dilation` and windows are an
int, (h, w) or [1, h, w, 1]; `padding` is "same", "valid", an int, (h, w) or ((top, bottom), (left,
right)).
"""

import itertools

import numpy as np
from activation_reference import activated, relu
from arithmetic_reference import *  # noqa: F403
from augment_reference import augment_images  # noqa: F401
from loss_reference import *  # noqa: F403
from norm_reference import *  # noqa: F403


def pair(value):
    """An int, (h, w) or the lecture's [1, h, w, 1] -> (h, w)."""
    if np.ndim(value) == 0:
        return int(value), int(value)
    return tuple(value[1:3]) if len(value) == 4 else tuple(value)


def same_padding(size, kernel, stride, dilation=1):
    """TensorFlow's SAME along one axis: ceil(size / stride) outputs, the odd pixel at the end."""
    outputs = -(-size // stride)
    extent = dilation * (kernel - 1) + 1
    total = max((outputs - 1) * stride + extent - size, 0)
    return total // 2, total - total // 2


def four_sides(padding, image, kernel, stride, dilation=1):
    """Any form of `padding` -> ((top, bottom), (left, right)) for an image of (H, W) pixels."""
    if isinstance(padding, str):
        if padding.lower() == "valid":
            return (0, 0), (0, 0)
        axes = zip(image, pair(kernel), pair(stride), pair(dilation), strict=True)
        return tuple(same_padding(*axis) for axis in axes)
    if np.ndim(padding) == 2:
        return tuple(map(tuple, padding))
    return tuple((amount, amount) for amount in pair(padding))


class Windows:
    """Where the windows of a convolution or pool lie: OH, OW, and the taps that fall on pixels."""

    def __init__(self, image, kernel, stride, padding, dilation=1):
        self.H, self.W = image
        self.KH, self.KW = pair(kernel)
        self.stride, self.dilation = pair(stride), pair(dilation)
        self.padding = four_sides(padding, image, kernel, stride, dilation)
        self.OH, self.OW = (
            (size + sum(pads) - dilated * (taps - 1) - 1) // step + 1
            for size, pads, dilated, taps, step in zip(
                image, self.padding, self.dilation, (self.KH, self.KW), self.stride, strict=True
            )
        )

    def __iter__(self):
        """Yield (oh, ow, kh, kw, h, w), window by window, rows first, but no tap on padding."""
        (top, _), (left, _) = self.padding
        extents = map(range, (self.OH, self.OW, self.KH, self.KW))
        for oh, ow, kh, kw in itertools.product(*extents):
            h = oh * self.stride[0] - top + kh * self.dilation[0]
            w = ow * self.stride[1] - left + kw * self.dilation[1]
            if 0 <= h < self.H and 0 <= w < self.W:
                yield oh, ow, kh, kw, h, w


def _groups(C, OC, groups):
    """The slices of input and of output channels that belong together."""
    c, oc = C // groups, OC // groups
    return [(slice(g * c, (g + 1) * c), slice(g * oc, (g + 1) * oc)) for g in range(groups)]


def conv2d(x, weight, bias=None, stride=1, padding="valid", dilation=1, groups=1, activation=None):
    """y[n, oh, ow, oc] = bias[oc] + sum over kh, kw, c of x[n, h, w, c] * weight[kh, kw, c, oc].

    Its activation with `activation`.
    """
    x, weight = np.float64(x), np.float64(weight)
    (N, H, W, C), (KH, KW, _, OC) = x.shape, weight.shape
    windows = Windows((H, W), (KH, KW), stride, padding, dilation)
    y = np.zeros((N, windows.OH, windows.OW, OC))
    for oh, ow, kh, kw, h, w in windows:
        for c, oc in _groups(C, OC, groups):
            y[:, oh, ow, oc] += x[:, h, w, c] @ weight[kh, kw, :, oc]
    return activated(y if bias is None else y + np.float64(bias), activation)


def conv2d_backward_input(dy, weight, input_shape, stride=1, padding="valid", dilation=1, groups=1):
    """dx[n, h, w, c] = sum of dy[n, oh, ow, oc] * weight[kh, kw, c, oc] over its windows."""
    dy, weight = np.float64(dy), np.float64(weight)
    (_, H, W, C), (KH, KW, _, OC) = input_shape, weight.shape
    dx = np.zeros(input_shape)
    for oh, ow, kh, kw, h, w in Windows((H, W), (KH, KW), stride, padding, dilation):
        for c, oc in _groups(C, OC, groups):
            dx[:, h, w, c] += dy[:, oh, ow, oc] @ weight[kh, kw, :, oc].T
    return dx


def conv2d_backward_weight(x, dy, weight_shape, stride=1, padding="valid", dilation=1, groups=1):
    """dweight[kh, kw, c, oc] = sum over n, oh, ow of x[n, h, w, c] * dy[n, oh, ow, oc]."""
    x, dy = np.float64(x), np.float64(dy)
    (_, H, W, C), (KH, KW, _, OC) = x.shape, weight_shape
    dweight = np.zeros(weight_shape)
    for oh, ow, kh, kw, h, w in Windows((H, W), (KH, KW), stride, padding, dilation):
        for c, oc in _groups(C, OC, groups):
            dweight[kh, kw, :, oc] += x[:, h, w, c].T @ dy[:, oh, ow, oc]
    return dweight


def conv2d_backward_bias(dy):
    """dbias[oc] = sum over n, oh, ow of dy[n, oh, ow, oc]."""
    return np.float64(dy).sum(axis=(0, 1, 2))


def max_pool2d(x, kernel_size, stride=None, padding="valid"):
    """(y, indices): the maximum of each window and its position h * W + w.

    The first maximum wins, NaN wins over numbers, the first NaN over later ones, and padding never.
    """
    x = np.float64(x)
    N, H, W, C = x.shape
    stride = kernel_size if stride is None else stride
    windows = Windows((H, W), kernel_size, stride, padding)
    y = np.zeros((N, windows.OH, windows.OW, C))
    indices = np.full(y.shape, -1, np.int32)
    for oh, ow, _, _, h, w in windows:
        value, best, where = x[:, h, w], y[:, oh, ow], indices[:, oh, ow]
        better = (where < 0) | (value > best) | (np.isnan(value) & ~np.isnan(best))
        best[better] = value[better]
        where[better] = h * W + w
    return y, indices


def max_pool2d_backward(dy, indices, input_shape):
    """dx is zero, but each maximum gets the gradients of the windows that it won."""
    W = input_shape[2]
    dx = np.zeros(input_shape)
    for n, oh, ow, c in np.ndindex(dy.shape):
        h, w = divmod(int(indices[n, oh, ow, c]), W)
        dx[n, h, w, c] += np.float64(dy[n, oh, ow, c])
    return dx


def _divisors(windows, count_include_pad):
    """How many pixels [OH, OW] each mean is taken over."""
    if count_include_pad:
        return np.full((windows.OH, windows.OW), windows.KH * windows.KW)
    counts = np.zeros((windows.OH, windows.OW), int)
    for oh, ow, *_ in windows:
        counts[oh, ow] += 1
    return counts


def avg_pool2d(x, kernel_size, stride=None, padding="valid", count_include_pad=False):
    """The mean of each window; padding counts as zeros, or not at all."""
    x = np.float64(x)
    N, H, W, C = x.shape
    windows = Windows((H, W), kernel_size, kernel_size if stride is None else stride, padding)
    y = np.zeros((N, windows.OH, windows.OW, C))
    for oh, ow, _, _, h, w in windows:
        y[:, oh, ow] += x[:, h, w]
    return y / _divisors(windows, count_include_pad)[:, :, None]


def avg_pool2d_backward(
    dy, input_shape, kernel_size, stride=None, padding="valid", count_include_pad=False
):
    """Each pixel of a window gets an equal share of its gradient."""
    dy = np.float64(dy)
    windows = Windows(
        input_shape[1:3], kernel_size, kernel_size if stride is None else stride, padding
    )
    divisors = _divisors(windows, count_include_pad)
    dx = np.zeros(input_shape)
    for oh, ow, _, _, h, w in windows:
        dx[:, h, w] += dy[:, oh, ow] / divisors[oh, ow]
    return dx


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


def split(x, sizes):
    ends = np.cumsum([0, *sizes])
    return tuple(np.float64(x)[..., a:b] for a, b in itertools.pairwise(ends))


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


def global_avg_pool2d(x):
    """Mean over H and W."""
    return np.float64(x).mean(axis=(1, 2))


def global_avg_pool2d_backward(dy, input_shape):
    """Each pixel's share."""
    _, H, W, _ = input_shape
    return np.broadcast_to(np.float64(dy)[:, None, None, :] / (H * W), input_shape)


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
