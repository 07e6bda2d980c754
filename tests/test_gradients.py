"""Gradients: slopes of the forward pass in float64, and the identities that adjoints must keep.

float64 runs in plain loops, so central differences hold the formulas; the float32 kernels are held
to the identities <conv(x, w), g> = <x, backward_input(g, w)> = <w, backward_weight(x, g)>, which
need no reference. g is never uniform: a gradient that is right for ones may be wrong.
"""

import numpy as np
import pytest
import tolerance

from pycnn import ops

H_STEP = 2.0**-16  # exact in binary: x + h and x - h lie as far apart as we divide by


def slopes(loss, x):
    """Central differences of `loss(x)` at every element of x."""
    result = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        centre = x[at]
        x[at] = centre + H_STEP
        above = loss(x)
        x[at] = centre - H_STEP
        below = loss(x)
        x[at] = centre
        result[at] = (above - below) / (2 * H_STEP)
    return result


def check_slopes(loss, x, gradient, size, third_derivative=0.0):
    """`size`: a bound of |loss|, times the operations of one evaluation."""
    bound = tolerance.central_difference(size, third_derivative, H_STEP)
    tolerance.assert_within(gradient, slopes(loss, x), bound)


CONVS = {
    "same": ((2, 4, 3, 2), (3, 3, 2, 3), {"padding": "same"}),
    "stride_2": ((1, 5, 6, 3), (3, 2, 3, 2), {"stride": 2, "padding": "same"}),
    "four_sided": ((1, 3, 4, 2), (2, 3, 2, 2), {"stride": (1, 2), "padding": ((2, 0), (1, 1))}),
    "dilation": ((1, 5, 5, 1), (2, 2, 1, 3), {"dilation": 2}),
    "groups": ((2, 3, 3, 4), (2, 2, 2, 4), {"groups": 2, "padding": 1}),
}


@pytest.mark.parametrize("case", CONVS)
def test_conv2d_by_central_differences(rng, case):
    x_shape, weight_shape, options = CONVS[case]
    x, weight = rng.standard_normal(x_shape), rng.standard_normal(weight_shape)
    bias = rng.standard_normal(weight_shape[3])
    g = rng.standard_normal(ops.conv2d(x, weight, **options).shape)

    def loss(_):
        return np.vdot(ops.conv2d(x, weight, bias, **options), g)

    terms = weight[..., 0].size + g.size
    size = terms * np.vdot(ops.conv2d(abs(x), abs(weight), abs(bias), **options), abs(g))
    check_slopes(loss, x, ops.conv2d_backward_input(g, weight, x.shape, **options), size)
    check_slopes(loss, weight, ops.conv2d_backward_weight(x, g, weight.shape, **options), size)
    check_slopes(loss, bias, ops.conv2d_backward_bias(g), size)


POOLS = {
    "lecture": (2, {"stride": 2, "padding": "same"}),
    "overlap": (3, {"stride": 1, "padding": 1}),
    "gaps": ((2, 1), {"stride": (3, 2)}),
}


@pytest.mark.parametrize("case", POOLS)
def test_pools_by_central_differences(rng, case):
    """Distinct values far apart: the maximum does not change hands within the step."""
    kernel_size, options = POOLS[case]
    x = rng.permutation(np.arange(2.0 * 5 * 6 * 2)).reshape(2, 5, 6, 2) / 60
    y, indices = ops.max_pool2d(x, kernel_size, return_indices=True, **options)
    g = rng.standard_normal(y.shape)
    size = (g.size + 9) * np.abs(g).sum() * x.max()

    def maximum(x):
        return np.vdot(ops.max_pool2d(x, kernel_size, **options), g)

    check_slopes(maximum, x, ops.max_pool2d_backward(g, indices, x.shape), size)
    for include in (False, True):

        def mean(x, include=include):
            y = ops.avg_pool2d(x, kernel_size, count_include_pad=include, **options)
            return np.vdot(y, g)

        gradient = ops.avg_pool2d_backward(
            g, x.shape, kernel_size, count_include_pad=include, **options
        )
        check_slopes(mean, x, gradient, size)


def test_relu_by_central_differences(rng):
    x, g = rng.standard_normal((2, 5, 7))
    x[np.abs(x) < 0.01] = 1
    gradient = ops.relu_backward(g, ops.relu(x))
    check_slopes(lambda x: np.vdot(ops.relu(x), g), x, gradient, g.size * np.abs(g * x).sum())


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_by_central_differences(rng, name):
    """Third derivatives of log_softmax are cumulants of a 0-1 variable: below 1; of softmax too."""
    x, g = rng.standard_normal((2, 4, 6))
    forward = getattr(ops, name)
    gradient = getattr(ops, f"{name}_backward")(g, forward(x))
    weight = np.abs(g).sum()
    size = 4 * g.size * (np.abs(forward(x)) * np.abs(g)).sum() + 8 * weight
    check_slopes(lambda x: np.vdot(forward(x), g), x, gradient, size, weight)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_by_central_differences(rng, smoothing):
    logits, labels = rng.standard_normal((5, 7)), rng.integers(0, 7, 5)

    def loss(logits):
        return ops.softmax_cross_entropy(logits, labels, label_smoothing=smoothing)[0]

    _, dlogits = ops.softmax_cross_entropy(logits, labels, label_smoothing=smoothing)
    check_slopes(loss, logits, dlogits, 4 * logits.size * max(loss(logits), 1.0), 1.0)


IDENTITIES = {
    "conv2": ((3, 14, 14, 32), (3, 3, 32, 64), {"padding": "same"}),
    "conv1": ((4, 28, 28, 1), (3, 3, 1, 32), {"padding": "same"}),
    "5x5": ((2, 9, 11, 17), (5, 5, 17, 33), {"padding": 2}),
    "1x1": ((2, 9, 7, 16), (1, 1, 16, 40), {}),
    "stride_2": ((2, 15, 14, 16), (3, 3, 16, 24), {"stride": 2, "padding": "same"}),
    "four_sided": ((2, 9, 8, 3), (3, 4, 3, 17), {"stride": (1, 3), "padding": ((0, 2), (3, 1))}),
    "groups": ((2, 8, 9, 12), (3, 3, 4, 6), {"groups": 3, "dilation": 2, "padding": 2}),
    "depthwise": ((2, 8, 9, 33), (3, 3, 1, 33), {"groups": 33, "padding": "same"}),
}


@pytest.mark.parametrize("algorithm", ["naive", "im2col", "direct", "auto"])
@pytest.mark.parametrize("case", IDENTITIES)
def test_the_three_directions_are_adjoint(isa, rng, case, algorithm):
    """Each inner product may be off by the bound of its factor times the other one, summed up."""
    x_shape, weight_shape, options = IDENTITIES[case]
    x, weight = (
        rng.standard_normal(x_shape, np.float32),
        rng.standard_normal(weight_shape, np.float32),
    )
    options = {**options, "algorithm": algorithm}
    y = ops.conv2d(x, weight, **options)
    g = rng.standard_normal(y.shape, np.float32)
    products = [
        np.vdot(y.astype(float), g.astype(float)),
        np.vdot(ops.conv2d_backward_input(g, weight, x.shape, **options).astype(float), x),
        np.vdot(ops.conv2d_backward_weight(x, g, weight.shape, **options).astype(float), weight),
    ]
    absolute = np.abs(x).astype(float), np.abs(weight).astype(float)
    magnitude = np.vdot(ops.conv2d(*absolute, **IDENTITIES[case][2]), np.abs(g))
    lengths = [weight[..., 0].size, weight[:, :, 0].size, g[..., 0].size]
    for other, length in zip(products[1:], lengths[1:], strict=True):
        bound = (tolerance.gamma(lengths[0] + 2) + tolerance.gamma(length + 2)) * magnitude
        assert abs(other - products[0]) <= bound, (case, algorithm, products, bound)
        assert abs(products[0]) > 0


@pytest.mark.parametrize("case", POOLS)
def test_pool_gradients_are_adjoint(isa, rng, case):
    """A maximum is linear once its winners are fixed: <pool(x), g> = <x, backward(g)>."""
    kernel_size, options = POOLS[case]
    x = rng.standard_normal((3, 12, 13, 18), np.float32)
    y, indices = ops.max_pool2d(x, kernel_size, return_indices=True, **options)
    g = rng.standard_normal(y.shape, np.float32)
    dx = ops.max_pool2d_backward(g, indices, x.shape)
    size = float(np.vdot(np.abs(y), np.abs(g)))
    assert np.vdot(dx.astype(float), x) == pytest.approx(
        np.vdot(y.astype(float), g), abs=tolerance.gamma(9 + 2) * size
    )
    y = ops.avg_pool2d(x, kernel_size, **options)
    dx = ops.avg_pool2d_backward(g, x.shape, kernel_size, **options)
    size = float(np.vdot(ops.avg_pool2d(np.abs(x), kernel_size, **options), np.abs(g)))
    assert np.vdot(dx.astype(float), x) == pytest.approx(
        np.vdot(y.astype(float), g), abs=2 * tolerance.gamma(9 + 3) * size
    )
