"""Transposed convolution: all algorithms in their other role, epilogues, sizes; and Conv1d."""

import functools

import numpy as np
import pytest
import reference
import tolerance
from tolerance_windows import conv_transpose2d as conv_transpose2d_bound

from pycnn import ops
from pycnn.graph.fuse import fused
from pycnn.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Conv1d,
    Conv2d,
    ConvTranspose2d,
    ReLU,
    Sequential,
)

# algorithms of the convolution whose gradient of the input it is: (x, (KH, KW, OC/groups), options)
SHAPES = {
    "any": ((2, 4, 3, 17), (3, 2, 20), {"stride": (2, 3), "output_padding": (1, 0)}),
    "dilated": ((2, 4, 5, 6), (2, 3, 18), {"dilation": (3, 2), "padding": ((1, 2), (0, 3))}),
    "apart": ((2, 3, 4, 6), (1, 2, 5), {"stride": 3, "groups": 2}),  # pixels that nothing meets
    "winograd": ((2, 7, 9, 18), (3, 3, 33), {"padding": (1, 0)}),
    "winograd_groups": ((1, 9, 6, 64), (3, 3, 32), {"padding": 1, "groups": 2}),
    "depthwise": ((2, 5, 4, 19), (3, 3, 1), {"stride": 2, "padding": 1, "groups": 19}),
    "depthwise_wide": ((2, 5, 4, 19), (2, 4, 1), {"stride": 2, "groups": 19}),
    "few_channels": ((2, 4, 5, 21), (4, 4, 3), {"stride": 2, "padding": 1}),
    "cropped": ((2, 3, 4, 6), (3, 2, 3), {"dilation": (4, 3), "output_padding": 2, "groups": 2}),
}
ANY = ("auto", "direct", "im2col", "naive")
OTHERS = {
    "apart": ("grouped",),
    "winograd": ("winograd",),
    "winograd_groups": ("winograd", "grouped"),
    "depthwise": ("depthwise",),
    "depthwise_wide": ("depthwise",),
    "few_channels": ("few_channels",),
}
EVERY = [(case, how) for case in SHAPES for how in (*ANY, *OTHERS.get(case, ()))]


@functools.cache
def arrays(case):
    shape, (KH, KW, OC), options = SHAPES[case]
    rng = np.random.default_rng(len(case))
    x = rng.standard_normal(shape, np.float32)
    weight = rng.standard_normal((KH, KW, OC, shape[3]), np.float32)
    return x, weight, rng.standard_normal(OC * options.get("groups", 1), np.float32), options


@functools.cache
def exact(case, activation):
    """(y, bound); Winograd's transforms add numbers before, hence four times."""
    x, weight, bias, options = arrays(case)
    if activation is None:
        bias = None
    how = {**options, "activation": activation}
    bound = conv_transpose2d_bound(x, weight, bias, **how)
    y = reference.conv_transpose2d(x, weight, bias, **how)
    return y, bound * (4 if case.startswith("winograd") else 1)


@pytest.mark.parametrize(("case", "algorithm"), EVERY)
def test_every_algorithm_with_what_stands_behind_it(isa, case, algorithm):
    x, weight, bias, options = arrays(case)
    for activation in (None, "relu", "silu"):
        y = ops.conv_transpose2d(
            x,
            weight,
            None if activation is None else bias,
            activation=activation,
            algorithm=algorithm,
            **options,
        )
        tolerance.assert_within(y, *exact(case, activation), f"{activation}")


@pytest.mark.parametrize("case", SHAPES)
def test_compiled_with_weights_packed_once(isa, rng, case):
    shape, (KH, KW, OC), options = SHAPES[case]
    OC *= options.get("groups", 1)
    layer = ConvTranspose2d(shape[3], OC, (KH, KW), **options, rng=1)
    layer.bias.data[:] = rng.standard_normal(OC)
    x = rng.standard_normal(shape, np.float32)
    for model in (Sequential(layer), Sequential(layer, ReLU())):
        compiled = model.eval().compile_inference((None, *shape[1:]))
        if "winograd" not in case:  # which a batch may choose and an image not
            np.testing.assert_array_equal(compiled(x), model(x))
        np.testing.assert_allclose(compiled(x), model(x), rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(compiled(x)[1:], compiled(x[1:]))


@pytest.mark.parametrize(
    ("conv", "norm", "shape"),
    [
        (ConvTranspose2d(6, 8, (2, 3), 2, groups=2, rng=1), BatchNorm2d(8), (2, 4, 3, 6)),
        (ConvTranspose2d(6, 5, 3, bias=False, rng=1), BatchNorm2d(5), (2, 4, 3, 6)),
        (Conv1d(6, 8, 3, groups=2, rng=1), BatchNorm1d(8), (2, 9, 6)),
    ],
)
def test_a_norm_and_relu_behind_it_are_one_step_of_a_compiled_network(rng, conv, norm, shape):
    C = norm.weight.data.size
    for array in (norm.weight.data, norm.bias.data, norm.running_mean):
        array[:] = rng.standard_normal(C)
    norm.running_var[:] = rng.random(C) + 0.5
    model = Sequential(conv, norm, ReLU()).eval()
    assert len(fused(model.program(shape), "compiled")) == 1
    x = rng.standard_normal(shape, np.float32)
    np.testing.assert_allclose(model.compile_inference(shape)(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", [0, 1, (2, 0), ((0, 1), (2, 1)), "same"])
@pytest.mark.parametrize(
    ("stride", "dilation", "more"), [(1, 1, 0), (2, 1, 1), ((3, 2), (1, 3), (2, 2))]
)
def test_it_is_the_adjoint_of_its_convolution(isa, rng, padding, stride, dilation, more):
    """<conv_transpose2d(x), g> = <x, conv2d(g)> with the same weight."""
    if padding == "same":
        more = 0
    x, weight = rng.integers(-3, 4, (2, 5, 4, 3)), rng.integers(-3, 4, (3, 4, 5, 3))
    x, weight = np.float32(x), np.float32(weight)
    options = {"stride": stride, "dilation": dilation, "padding": padding}
    y = ops.conv_transpose2d(x, weight, output_padding=more, **options)
    assert y.shape == ops.conv_transpose2d_output_shape(
        x.shape, weight.shape, output_padding=more, **options
    )
    g = np.float32(rng.integers(-3, 4, y.shape))
    dx = ops.conv_transpose2d_backward_input(g, weight, x.shape, output_padding=more, **options)
    np.testing.assert_array_equal(dx, ops.conv2d(g, weight, **options)[:, :5, :4])
    dweight = ops.conv_transpose2d_backward_weight(
        x, g, weight.shape, output_padding=more, **options
    )
    assert np.vdot(y, g) == np.vdot(x, dx) == np.vdot(weight, dweight)


@pytest.mark.parametrize(
    ("C", "OC", "stride", "expected"),
    [
        (8, 8, 1, "direct"),
        (8, 32, 1, "few_channels"),
        (8, 32, 2, "direct"),
        (3, 16, 2, "few_channels"),
    ],
)
def test_few_output_channels_leave_a_gradient_to_direct_convolution(C, OC, stride, expected):
    """As measured: what adds up taps takes as long for any OC."""
    found = ops.explain_conv2d((16, 28, 28, C), (3, 3, C, OC), padding=1, stride=stride)
    assert found.backward_input == expected


def test_tensorflows_same_makes_stride_times_the_pixels():
    """The odd pixel of the rim comes off behind: tf.nn.conv2d_transpose of ones, 3 wide, by 2."""
    y = ops.conv_transpose2d(
        np.ones((1, 1, 3, 1)), np.ones((1, 3, 1, 1)), stride=(1, 2), padding="same"
    )
    np.testing.assert_array_equal(y[0, 0, :, 0], [1, 1, 2, 1, 2, 1])


def test_the_first_weights_keep_the_size_of_a_signal():
    """The variance of y is twice that of x, which relu halves."""
    layer = ConvTranspose2d(64, 64, 4, stride=2, padding="same", bias=False, rng=3)
    y = layer(np.random.default_rng(0).standard_normal((4, 16, 16, 64), np.float32))
    assert 1.9 < y[:, 2:-2, 2:-2].var() < 2.1


def test_conv1d_is_conv2d_of_one_row(isa, rng):
    signal = Conv1d(6, 8, 3, 2, (2, 1), 2, 2, rng=5)
    image = Conv2d(6, 8, (1, 3), (1, 2), ((0, 0), (2, 1)), (1, 2), 2, rng=5)
    x = rng.standard_normal((3, 11, 6), np.float32)
    y = signal(x)
    np.testing.assert_array_equal(y, image(x[:, None])[:, 0])
    dx = signal.backward(y)
    np.testing.assert_array_equal(dx, image.backward(y[:, None])[:, 0])
    np.testing.assert_array_equal(signal.weight.grad, image.weight.grad[0])
    np.testing.assert_array_equal(signal.bias.grad, image.bias.grad)
    assert (
        repr(signal)
        == "Conv1d(6, 8, kernel_size=3, stride=2, padding=(2, 1), dilation=2, groups=2)"
    )


def test_sentences_of_signals():
    with pytest.raises(
        ValueError, match=r"Conv1d: x has shape \(2, 4, 9\), C = 9.*in_channels = 4.*\(0, 2, 1\)"
    ):
        Conv1d(4, 3, 3)(np.ones((2, 4, 9), np.float32))
    with pytest.raises(ValueError, match=r"Conv1d: x has shape .* 4 axes; expected 3: \[N, L, C\]"):
        Conv1d(4, 3, 3)(np.ones((2, 1, 9, 4), np.float32))
    with pytest.raises(ValueError, match=r"Conv1d: stride is \(1, 2\); expected a whole number"):
        Conv1d(4, 3, 3, (1, 2))
    with pytest.raises(ValueError, match=r"padding is .*-1"):
        Conv1d(4, 3, 3, padding=-1)


@pytest.mark.parametrize("case", SHAPES)
def test_pytorchs_values(case):
    torch = pytest.importorskip("torch", reason="compares with torch, which is not installed")
    x, weight, bias, options = arrays(case)
    if np.ndim(options.get("padding", 0)) == 2:
        options = {**options, "padding": (1, 2)}
    tensors = [
        torch.from_numpy(np.ascontiguousarray(a))
        for a in (x.transpose(0, 3, 1, 2), weight.transpose(3, 2, 0, 1), bias)
    ]
    theirs = torch.nn.functional.conv_transpose2d(*tensors, **options).numpy()
    y = ops.conv_transpose2d(x, weight, bias, **options).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(y, theirs, rtol=1e-4, atol=1e-4)
