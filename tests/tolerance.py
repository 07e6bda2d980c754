"""How far a result may lie from the exact one: bounds that are derived, not chosen.

Notation: u is the unit roundoff, half the distance from 1 to the next number: 2**-24 for float32.
One operation returns the exact result times (1 + d), |d| <= u (Higham, Accuracy and Stability of
Numerical Algorithms, section 2.2), and a product of k such factors lies within

    gamma(k) = k u / (1 - k u)                                            (lemma 3.1)

of 1. Hence the sum of k products, added in any order, with or without fused multiply-add, satisfies

    |computed - exact| <= gamma(k) * (sum of |a_i| |b_i|)                 (section 3.1)

because every product meets at most 1 multiplication and k - 1 additions. The sum on the right is
the reference run on absolute values. Two more roundings are granted: one for a bias, and one for
the reference itself, which rounds in float64. Rounding is monotone, so relu after the sum changes
nothing. Numbers near the subnormal ones, where the relative error is larger, are tested for
themselves; TINY covers results that underflow.

Each bound takes the arguments of the operator and returns one array for each of its results.
"""

import augment_reference
import numpy as np
import reference
from activation_tolerance import activated, activation, activation_backward, prelu, prelu_backward  # noqa: F401
from loss_tolerance import *  # noqa: F403
from rounding import TINY, gamma, unit_roundoff

globals().update(reference.by_name(activation))  # sigmoid, exp and the others


def assert_within(actual, exact, bound, what=""):
    """Every element of `actual` is finite and lies within `bound` of `exact`."""
    actual, exact = np.asarray(actual), np.asarray(exact)
    assert actual.shape == exact.shape, f"{what}: shape {actual.shape}, expected {exact.shape}"
    error = np.abs(actual.astype(np.float64) - exact)
    wrong = ~(error <= bound)
    if wrong.any():
        excess = np.where(np.isnan(error), np.inf, error - bound)
        at = np.unravel_index(np.argmax(excess), excess.shape)
        raise AssertionError(
            f"{what}: {wrong.sum()} of {wrong.size} elements are out of bounds; at {at} "
            f"{actual[at]!r}, expected {exact[at]!r} +- {np.broadcast_to(bound, error.shape)[at]!r}"
        )


def matmul(a, b, transpose_a=False, transpose_b=False):
    k = a.shape[0 if transpose_a else 1]
    return gamma(k + 2, a.dtype) * reference.matmul(np.abs(a), np.abs(b), transpose_a, transpose_b)


def linear(x, weight, bias=None, activation=None):
    """The sum, a bias, and the activation."""
    z = reference.linear(np.abs(x), np.abs(weight), None if bias is None else np.abs(bias))
    error = gamma(x.shape[1] + 2, x.dtype) * z
    return activated(reference.linear(x, weight, bias), error, activation, x.dtype)


def conv2d(x, weight, bias=None, activation=None, **options):
    """k = KH * KW * C / groups products, and the bias."""
    k = weight[..., 0].size
    magnitude = reference.conv2d(
        np.abs(x), np.abs(weight), None if bias is None else np.abs(bias), **options
    )
    error = gamma(k + 2, x.dtype) * magnitude
    return activated(reference.conv2d(x, weight, bias, **options), error, activation, x.dtype)


def conv2d_backward_input(dy, weight, input_shape, groups=1, **options):
    """A pixel meets each weight of its group at most once: k = KH * KW * OC / groups."""
    k = weight[:, :, 0].size // groups
    magnitude = reference.conv2d_backward_input(
        np.abs(dy), np.abs(weight), input_shape, groups=groups, **options
    )
    return gamma(k + 2, dy.dtype) * magnitude


def conv2d_backward_weight(x, dy, weight_shape, **options):
    """A weight acts once in every output pixel: k = N * OH * OW."""
    k = dy[..., 0].size
    magnitude = reference.conv2d_backward_weight(np.abs(x), np.abs(dy), weight_shape, **options)
    return gamma(k + 2, x.dtype) * magnitude


def conv2d_backward_bias(dy):
    return gamma(dy[..., 0].size + 2, dy.dtype) * reference.conv2d_backward_bias(np.abs(dy))


def max_pool2d_backward(dy, indices, input_shape):
    """A pixel adds up the windows that it won: at most all of them."""
    k = dy[0, :, :, 0].size if len(dy) else 0
    return gamma(k + 2, dy.dtype) * reference.max_pool2d_backward(np.abs(dy), indices, input_shape)


def avg_pool2d(x, kernel_size, **options):
    """The sum of a window, a reciprocal and a product."""
    KH, KW = reference.pair(kernel_size)
    return gamma(KH * KW + 2, x.dtype) * reference.avg_pool2d(np.abs(x), kernel_size, **options)


def avg_pool2d_backward(dy, input_shape, kernel_size, **options):
    k = dy[0, :, :, 0].size if len(dy) else 0
    magnitude = reference.avg_pool2d_backward(np.abs(dy), input_shape, kernel_size, **options)
    return gamma(k + 3, dy.dtype) * magnitude


def exact(*arrays, **options):
    """No rounding at all: relu, a maximum, a copy."""
    return 0.0


def adam_step(param, grad, m, v, step, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    """(param, m, v): each line of the algorithm in turn, its coefficients rounded once.

    m and v: a coefficient, two products and a sum, 4 roundings (5 with grad * grad). v adds
    positive terms, so its relative error is that, and half of it goes through the square root. The
    update then takes the two corrections, root, eps, quotient, lr: 10 roundings cover them. The
    decay and the last subtraction round at the size of the parameter.
    """
    g3, g4, g5, g10 = (gamma(k, param.dtype) for k in (3, 4, 5, 10))
    p64, g64, m64, v64 = (np.abs(np.float64(array)) for array in (param, grad, m, v))
    m_size = beta1 * m64 + (1 - beta1) * g64
    new_param, _, new_v = reference.adam_step(
        param, grad, m, v, step, lr, beta1, beta2, eps, weight_decay
    )
    denominator = np.sqrt(new_v / (1 - beta2**step)) + eps
    update = lr * m_size / (1 - beta1**step) / denominator
    decay = g3 * (1 + lr * weight_decay) * p64 + g3 * np.abs(new_param)
    return (g4 + g5 + g10) * update + decay, g4 * m_size, g5 * (beta2 * v64 + (1 - beta2) * g64**2)


def sgd_step(param, grad, velocity, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    """(param, velocity): the decay takes the longest way, 10 roundings."""
    absolute = [np.abs(np.float64(array)) for array in (param, grad, velocity)]
    size, new_velocity = reference.sgd_step(*absolute, -lr, momentum, nesterov, weight_decay)
    return gamma(10, param.dtype) * size, gamma(10, param.dtype) * new_velocity


def add_bias(y, bias):
    """One addition."""
    return gamma(1, y.dtype) * np.abs(reference.add_bias(y, bias))


def accumulate(total, part):
    return gamma(1, total.dtype) * np.abs(reference.accumulate(total, part))


def gather_images(images, indices, scale=None, mean=0.0, std=1.0):
    """`scale` is rounded to float32, and so are product, difference, quotient, mean and std."""
    factor = None if scale is None else np.abs(scale)
    absolute = np.abs(images) if images.dtype.kind == "f" else images
    size = reference.gather_images(absolute, indices, factor, -np.abs(mean), std)
    return gamma(2 if np.all(mean == 0) and np.all(std == 1) else 6) * size


def augment_images(images, indices, seed, epoch, mean=0.0, std=1.0, **options):
    """What the positions are off, times the slope of the image, and the roundings of a value.

    A position is (start + step * j) + move: start, step and the three operations round, and the
    reference does: 6 roundings of the largest position. A move is a sum of 2r + 1 products of sums
    of 2r + 1 products of numbers below 1 and rounded weights, whose total is alpha: 4r + 8
    roundings. Between pixels of at most `size` the slope is at most 2 size; a bilinear value takes
    3 products, 6 sums of up to 2 size and the scale of pixels: 14 roundings. Brightness and
    contrast are a product and a sum of the normalised value: everything grows by at most 4, the
    offset by 4 times size and mean.
    """
    alpha, sigma = options.get("elastic_alpha", 0.0), options.get("elastic_sigma", 4.0)
    kinds = ("shift", "rotation", "scale", "shear", "crop", "flip")
    geometry = {k: options[k] for k in kinds if k in options}
    gain = 4 if options.get("brightness") or options.get("contrast") else 0
    H, W = images.shape[1:3]
    moved = gamma(4 * int(np.ceil(3 * sigma)) + 8) * alpha
    bound = np.zeros((len(indices), *images.shape[1:]))
    for row, index in enumerate(indices):
        draws = augment_reference.Draws(seed, epoch, int(index))
        back, origin = augment_reference.affine(draws, (H, W), **geometry)
        farthest = np.abs(back) @ (W, H) + np.abs(origin) + 1 + alpha
        size = np.abs(reference.gather_images(images, [index])).max(initial=0.0)
        off = 2 * size * (gamma(6) * farthest.sum() + 2 * moved)
        exact = off + gamma(14) * size + gamma(6) * (size + np.abs(mean))
        bound[row] = (exact + gain * (exact + gamma(6) * (size + np.abs(mean)))) / np.float64(std)
    return bound


def rmsprop_step(
    param, grad, square, buffer, lr, alpha=0.99, eps=1e-8, momentum=0.0, weight_decay=0.0
):
    """(param, square, buffer): as in Adam; the decay enters before the square, so it may cancel."""
    g10, g20 = gamma(10, param.dtype), gamma(20, param.dtype)
    p64, g64, s64, b64 = (np.abs(np.float64(array)) for array in (param, grad, square, buffer))
    size = g64 + weight_decay * p64
    _, new_square, _ = reference.rmsprop_step(
        param, grad, square, buffer, lr, alpha, eps, momentum, weight_decay
    )
    square_bound = g10 * (alpha * s64 + (1 - alpha) * size**2)
    root = np.sqrt(new_square) + eps
    step = size / root
    step_bound = g20 * step + step * square_bound / (2 * np.maximum(new_square, TINY))
    buffer_bound = step_bound + g20 * momentum * b64
    moved = p64 + lr * (momentum * b64 + step)
    return lr * buffer_bound + g10 * moved, square_bound, buffer_bound


def global_avg_pool2d(x):
    k = x[0, :, :, 0].size if len(x) else 0
    return gamma(k + 3, x.dtype) * reference.global_avg_pool2d(np.abs(x))


def global_avg_pool2d_backward(dy, input_shape):
    return gamma(3, dy.dtype) * reference.global_avg_pool2d_backward(np.abs(dy), input_shape)


def dropout(x, p, seed, calls=0):
    """The factor 1 / (1 - p) and the product."""
    return gamma(2, x.dtype) * np.abs(reference.dropout(x, p, seed, calls))


def batch_norm_inference(
    x, weight, bias, mean, var, eps=1e-5, activation=None, mean_bound=0.0, var_bound=0.0
):
    """x - mean, the scale of 4 roundings, the product and the sum; and what mean and var bring."""
    x64, w64, mean64, var64 = map(np.float64, (x, weight, mean, var))
    scale = np.abs(w64) / np.sqrt(var64 + eps)
    distance = np.abs(x64 - mean64)
    relative = gamma(8, x.dtype) + np.asarray(var_bound) / (2 * (var64 + eps))
    magnitude = scale * distance + np.abs(np.float64(bias))
    return scale * (relative * distance + mean_bound) + gamma(2, x.dtype) * magnitude


def batch_norm(x, weight, bias, eps=1e-5, activation=None):
    """(y, mean, var): sums of M numbers; an error of the mean enters the variance squared."""
    rows = np.float64(x).reshape(-1, x.shape[-1])
    _, mean, var = reference.batch_norm(x, weight, bias, eps)
    depth = min(len(rows), 512)  # of a chunk; chunks are added in float64
    if x.dtype == np.float64:
        depth = len(rows)
    mean_bound = gamma(depth + 4, x.dtype) * np.abs(rows).mean(axis=0)
    var_bound = gamma(depth + 10, x.dtype) * var + mean_bound**2
    bounds = {"mean_bound": mean_bound, "var_bound": var_bound}
    return batch_norm_inference(x, weight, bias, mean, var, eps, **bounds), mean_bound, var_bound


def batch_norm_backward(dy, x, weight, bias, mean, var, eps=1e-5, activation=None):
    """(dx, dweight, dbias): sums of M products; with relu, y is not within rounding of 0."""
    y = reference.batch_norm_inference(x, weight, bias, mean, var, eps)
    g = np.abs(np.float64(dy))
    if activation == "relu":
        assert np.all(np.abs(y) > batch_norm_inference(x, weight, bias, mean, var, eps))
        g = reference.relu_backward(g, y)
    axes, M = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    inverse = 1 / np.sqrt(np.float64(var) + eps)
    z = np.abs(np.float64(x) - mean) * inverse
    sum_g, sum_gz = g.sum(axis=axes), (g * z).sum(axis=axes)
    rounding = gamma((M if x.dtype == np.float64 else min(M, 512)) + 16, x.dtype)
    dx = rounding * np.abs(np.float64(weight)) * inverse * (g + sum_g / M + z * sum_gz / M)
    return dx, rounding * sum_gz, rounding * sum_g


def central_difference(size, third_derivative, h):
    """|(f(x + h) - f(x - h)) / (2 h) - f'(x)|: truncation h^2 / 6 |f'''|, rounding u |f| / h.

    `size` bounds |f| and counts the roundings of its evaluation; float64 throughout.
    """
    return h * h / 6 * third_derivative + unit_roundoff(np.float64) * size / h
