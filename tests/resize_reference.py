"""Resizing and rims in float64: a full matrix of weights for each axis, from the definitions."""

import numpy as np


def place(i, n, outputs, scale, coordinates):
    """ONNX's coordinate_transformation_mode."""
    if coordinates == "align_corners":
        return i * (n - 1) / (n * scale - 1) if n * scale != 1 else 0.0
    if coordinates == "asymmetric":
        return i / scale
    if coordinates == "pytorch_half_pixel" and outputs == 1:
        return -0.5
    if coordinates == "half_pixel_symmetric":
        return n / 2 * (1 - outputs / (n * scale)) + (i + 0.5) / scale - 0.5
    return (i + 0.5) / scale - 0.5


def nearest_pixel(x, nearest):
    below, above = np.floor(x), np.ceil(x)
    if nearest in ("floor", "ceil"):
        return below if nearest == "floor" else above
    if x - below == 0.5:
        return below if nearest == "round_prefer_floor" else above
    return np.round(x)


def kernel(d, mode):
    d = abs(d)
    if mode == "bilinear":
        return max(0.0, 1 - d)
    if d <= 1:
        return 1.25 * d**3 - 2.25 * d**2 + 1
    return -0.75 * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def matrix(n, outputs, scale, mode, coordinates, nearest, antialias):
    weights = np.zeros((outputs, n))
    for i in range(outputs):
        x = place(i, n, outputs, scale, coordinates)
        if mode == "nearest":
            weights[i, int(np.clip(nearest_pixel(x, nearest), 0, n - 1))] = 1
            continue
        narrow = min(scale, 1) if antialias else 1
        row = np.zeros(n)
        for pixel in range(int(x) - 3 * n, int(x) + 3 * n + 1):
            row[np.clip(pixel, 0, n - 1)] += kernel((pixel - x) * narrow, mode)
        weights[i] = row / row.sum() if antialias else row
    return weights


def matrices(shape, size=None, scale=None, mode="nearest", coordinates="half_pixel",
             nearest="round_prefer_floor", antialias=False):  # fmt: skip
    _, H, W, _ = shape
    scales = (scale, scale) if np.ndim(scale) == 0 else scale
    sizes = (size, size) if np.ndim(size) == 0 else size
    if size is None:
        sizes = int(H * scales[0]), int(W * scales[1])
    if scale is None:
        scales = sizes[0] / H, sizes[1] / W
    axes = zip((H, W), sizes, scales, strict=True)
    return [matrix(*axis, mode, coordinates, nearest, antialias) for axis in axes]


def resize(x, **options):
    rows, columns = matrices(x.shape, **options)
    return np.einsum("ph,qw,nhwc->npqc", rows, columns, np.float64(x), optimize=True)


def resize_backward(dy, input_shape, **options):
    rows, columns = matrices(input_shape, **options)
    return np.einsum("ph,qw,npqc->nhwc", rows, columns, np.float64(dy), optimize=True)


def rim(n, before, after, mode):
    weights = np.zeros((before + n + after, n))
    for i, where in enumerate(np.pad(np.arange(n), (before, after), mode=mode)):
        weights[i, where] = 1
    return weights


def pad_backward(dy, input_shape, padding, mode="constant"):
    (top, bottom), (left, right) = padding
    _, H, W, _ = input_shape
    if mode == "constant":
        return np.float64(dy)[:, top : top + H, left : left + W]
    matrices = rim(H, top, bottom, mode), rim(W, left, right, mode)
    return np.einsum("ph,qw,npqc->nhwc", *matrices, np.float64(dy), optimize=True)
