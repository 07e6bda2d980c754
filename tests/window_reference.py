"""What windows of an image compute: convolutions and pools, in float64 loops. Part of reference.py.

Images are [N, H, W, C], weights [KH, KW, C / groups, OC]. `stride`, `dilation` and windows are an
int, (h, w) or [1, h, w, 1]; `padding` is "same", "valid", an int, (h, w) or ((top, bottom), (left,
right)).
"""

import itertools

import numpy as np
from activation_reference import activated


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
    """Where the windows of a convolution or pool lie: OH, OW, and the taps that fall on pixels.

    ceil_mode: a last window that begins before the padding behind the image counts too.
    """

    def __init__(self, image, kernel, stride, padding, dilation=1, ceil_mode=False):
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
        if ceil_mode:
            (top, _), (left, _) = self.padding
            self.OH += self._reaches_out(self.OH, 0, top)
            self.OW += self._reaches_out(self.OW, 1, left)

    def _reaches_out(self, outputs, axis, before):
        """Whether one more window would begin inside, and the last one has not seen all yet."""
        size, kernel = (self.H, self.W)[axis], (self.KH, self.KW)[axis]
        stride, dilation = self.stride[axis], self.dilation[axis]
        first = outputs * stride - before
        end = (outputs - 1) * stride - before + dilation * (kernel - 1) + 1
        return first < size and end < size + self.padding[axis][1]

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


class SharedWindows:
    """OH x OW windows that share an image, those of adaptive pools."""

    def __init__(self, image, output_size):
        self.H, self.W = image
        sizes = output_size if np.ndim(output_size) else (output_size, output_size)
        self.OH, self.OW = (n or size for n, size in zip(sizes, image, strict=True))

    def __iter__(self):
        """As `Windows`."""
        for oh, ow in itertools.product(range(self.OH), range(self.OW)):
            rows = range(oh * self.H // self.OH, -(-(oh + 1) * self.H // self.OH))
            columns = range(ow * self.W // self.OW, -(-(ow + 1) * self.W // self.OW))
            for h, w in itertools.product(rows, columns):
                yield oh, ow, h - rows[0], w - columns[0], h, w


def max_pool2d(x, kernel_size, stride=None, padding="valid", **options):
    """(y, indices): the maximum of each window and its position h * W + w.

    The first maximum wins, NaN wins over numbers, the first NaN over later ones, and padding never.
    """
    stride = kernel_size if stride is None else stride
    return maxima(x, Windows(x.shape[1:3], kernel_size, stride, padding, **options))


def adaptive_max_pool2d(x, output_size):
    return maxima(x, SharedWindows(x.shape[1:3], output_size))


def global_max_pool2d(x):
    return tuple(array[:, 0, 0] for array in adaptive_max_pool2d(x, 1))


def maxima(x, windows):
    x = np.float64(x)
    N, _, W, C = x.shape
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


def _divisors(windows, count_include_pad=False):
    """How many pixels [OH, OW] each mean is taken over."""
    counts = np.zeros((windows.OH, windows.OW), int)
    if not count_include_pad:
        for oh, ow, *_ in windows:
            counts[oh, ow] += 1
        return counts
    (top, bottom), (left, right) = windows.padding
    for oh, ow, kh, kw in np.ndindex(windows.OH, windows.OW, windows.KH, windows.KW):
        h = oh * windows.stride[0] + kh * windows.dilation[0]
        w = ow * windows.stride[1] + kw * windows.dilation[1]
        counts[oh, ow] += h < top + windows.H + bottom and w < left + windows.W + right
    return counts


def _of(shape, kernel_size, stride, padding, options):
    return Windows(
        shape[1:3], kernel_size, kernel_size if stride is None else stride, padding, **options
    )


def avg_pool2d(x, kernel_size, stride=None, padding="valid", count_include_pad=False, **options):
    """The mean of each window; padding counts as zeros, or not at all."""
    windows = _of(x.shape, kernel_size, stride, padding, options)
    return _means(x, windows, _divisors(windows, count_include_pad))


def adaptive_avg_pool2d(x, output_size):
    windows = SharedWindows(x.shape[1:3], output_size)
    return _means(x, windows, _divisors(windows))


def _means(x, windows, divisors):
    x = np.float64(x)
    y = np.zeros((len(x), windows.OH, windows.OW, x.shape[3]))
    for oh, ow, _, _, h, w in windows:
        y[:, oh, ow] += x[:, h, w]
    return y / divisors[:, :, None]


def avg_pool2d_backward(
    dy, input_shape, kernel_size, stride=None, padding="valid", count_include_pad=False, **options
):
    """Each pixel of a window gets an equal share of its gradient."""
    windows = _of(input_shape, kernel_size, stride, padding, options)
    return _spread(dy, input_shape, windows, _divisors(windows, count_include_pad))


def adaptive_avg_pool2d_backward(dy, input_shape):
    windows = SharedWindows(input_shape[1:3], dy.shape[1:3])
    return _spread(dy, input_shape, windows, _divisors(windows))


def _spread(dy, input_shape, windows, divisors):
    dy, dx = np.float64(dy), np.zeros(input_shape)
    for oh, ow, _, _, h, w in windows:
        dx[:, h, w] += dy[:, oh, ow] / divisors[oh, ow]
    return dx


def global_avg_pool2d(x):
    """Mean over H and W."""
    return np.float64(x).mean(axis=(1, 2))


def global_avg_pool2d_backward(dy, input_shape):
    """Each pixel's share."""
    _, H, W, _ = input_shape
    return np.broadcast_to(np.float64(dy)[:, None, None, :] / (H * W), input_shape)


class Spread:
    """Where the pixels of a transposed convolution are spread to: OH, OW, and what is not cut off.

    OH = (H - 1) stride - top - bottom + dilation (KH - 1) + 1 + output_padding, or H stride.
    """

    def __init__(self, image, kernel, stride=1, padding=0, output_padding=0, dilation=1):
        self.image, self.kernel = image, kernel
        self.stride, self.dilation = pair(stride), pair(dilation)
        extents = [d * (k - 1) + 1 for d, k in zip(self.dilation, kernel, strict=True)]
        if padding == "same":
            cut = [max(e - s, 0) for e, s in zip(extents, self.stride, strict=True)]
            self.before = [total // 2 for total in cut]
            self.OH, self.OW = (n * s for n, s in zip(image, self.stride, strict=True))
            return
        sides = four_sides(padding, image, kernel, stride)
        self.before = [before for before, _ in sides]
        self.OH, self.OW = (
            (n - 1) * s - sum(side) + extent + more
            for n, s, side, extent, more in zip(
                image, self.stride, sides, extents, pair(output_padding), strict=True
            )
        )

    def __iter__(self):
        """Yield (h, w, kh, kw, oh, ow)."""
        for h, w, kh, kw in np.ndindex(*self.image, *self.kernel):
            oh = h * self.stride[0] - self.before[0] + kh * self.dilation[0]
            ow = w * self.stride[1] - self.before[1] + kw * self.dilation[1]
            if 0 <= oh < self.OH and 0 <= ow < self.OW:
                yield h, w, kh, kw, oh, ow


def conv_transpose2d(x, weight, bias=None, groups=1, activation=None, **options):
    """Each pixel of x, times the weight [KH, KW, OC / groups, C], is added around its place."""
    x, weight = np.float64(x), np.float64(weight)
    (N, H, W, C), (KH, KW, OCg, _) = x.shape, weight.shape
    spread = Spread((H, W), (KH, KW), **options)
    y = np.zeros((N, spread.OH, spread.OW, OCg * groups))
    for h, w, kh, kw, oh, ow in spread:
        for c, oc in _groups(C, OCg * groups, groups):
            y[:, oh, ow, oc] += x[:, h, w, c] @ weight[kh, kw, :, c].T
    return activated(y if bias is None else y + np.float64(bias), activation)


def conv_transpose2d_backward_input(dy, weight, input_shape, groups=1, **options):
    """What a pixel was added to."""
    dy, weight = np.float64(dy), np.float64(weight)
    (_, H, W, C), (KH, KW, OCg, _) = input_shape, weight.shape
    dx = np.zeros(input_shape)
    for h, w, kh, kw, oh, ow in Spread((H, W), (KH, KW), **options):
        for c, oc in _groups(C, OCg * groups, groups):
            dx[:, h, w, c] += dy[:, oh, ow, oc] @ weight[kh, kw, :, c]
    return dx


def conv_transpose2d_backward_weight(x, dy, weight_shape, groups=1, **options):
    x, dy = np.float64(x), np.float64(dy)
    (_, H, W, C), (KH, KW, OCg, _) = x.shape, weight_shape
    dweight = np.zeros(weight_shape)
    for h, w, kh, kw, oh, ow in Spread((H, W), (KH, KW), **options):
        for c, oc in _groups(C, OCg * groups, groups):
            dweight[kh, kw, :, c] += dy[:, oh, ow, oc].T @ x[:, h, w, c]
    return dweight
