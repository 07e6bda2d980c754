"""Grouped convolution of narrow groups: every width, remainders of groups, columns and rows."""

import _pycnn
import numpy as np
import pytest
import reference
import tolerance

import pycnn
from pycnn import ops

# (channels of a group in, out, groups): 8, 4, 2 and 1 groups a vector, full and ragged, the last
# vector short; two vectors a group.
WIDTHS = (
    (1, 2, 19), (2, 1, 9), (2, 2, 8), (2, 2, 11), (3, 4, 5), (4, 4, 8), (4, 3, 6), (5, 8, 3),
    (8, 8, 5), (6, 7, 2), (16, 16, 2), (12, 9, 3), (9, 16, 2), (32, 32, 2), (17, 24, 3), (24, 5, 2),
)  # fmt: skip
# H, W, kernel, options: rows that end in tiles of each size, strides and dilations that move the
# columns, phases without taps, rims wider than the image.
GEOMETRIES = (
    (5, 7, (3, 3), {"padding": "same"}),
    (4, 14, (3, 3), {"padding": 1}),
    (3, 27, (3, 3), {"padding": "same", "stride": (1, 1)}),
    (9, 11, (3, 3), {"padding": 1, "stride": 2}),
    (8, 5, (1, 1), {"stride": 2}),
    (7, 10, (5, 3), {"padding": "same", "stride": (3, 2), "dilation": (1, 2)}),
    (6, 9, (2, 2), {"stride": 4, "padding": ((0, 3), (2, 1))}),
    (2, 1, (3, 5), {"padding": 3}),
)


def arrays(N, H, W, kernel, width, options, make):
    C, OC, groups = width
    rng = np.random.default_rng(5)
    x, weight = make(rng, (N, H, W, C * groups)), make(rng, (*kernel, C, OC * groups))
    options = {**options, "groups": groups}
    shape = ops.conv2d(x, weight, algorithm="naive", **options).shape
    return x, weight, make(rng, (OC * groups,)), make(rng, shape), options


def normal(rng, shape):
    return rng.standard_normal(shape, dtype=np.float32)


def integers(rng, shape):
    return np.float32(rng.integers(-4, 5, shape))


def results(given, **extra):
    """The three directions, written into arrays of NaN."""
    x, weight, bias, dy, options = given
    extra = {
        "algorithm": "grouped",
        **extra,
    }  # of groups of 16 and 32 channels "auto" may take Winograd
    y, dx, dweight = (np.full_like(like, np.nan) for like in (dy, x, weight))
    return (
        ops.conv2d(x, weight, bias, out=y, **options, **extra),
        ops.conv2d_backward_input(dy, weight, x.shape, out=dx, **options, **extra),
        ops.conv2d_backward_weight(x, dy, weight.shape, out=dweight, **options, **extra),
    )


@pytest.mark.parametrize("width", WIDTHS, ids=str)
def test_every_width_is_right(isa, width):
    for H, W, kernel, options in GEOMETRIES:
        x, weight, bias, dy, options = given = arrays(2, H, W, kernel, width, options, normal)
        cases = (
            ("conv2d", (x, weight, bias)),
            ("conv2d_backward_input", (dy, weight, x.shape)),
            ("conv2d_backward_weight", (x, dy, weight.shape)),
        )
        for result, (name, arguments) in zip(results(given), cases, strict=True):
            exact = getattr(reference, name)(*arguments, **options)
            bound = getattr(tolerance, name)(*arguments, **options)
            tolerance.assert_within(result, exact, bound, f"{name} {H}x{W} {kernel} {options}")


# Bands of rows, several slots, more blocks than are copied together; all on several threads.
LARGE = (
    ((3, 61, 58), (3, 3), (4, 4, 32), {"padding": 1}),
    ((2, 45, 91), (3, 3), (8, 8, 20), {"padding": 1, "stride": 2}),
    ((5, 14, 15), (3, 3), (16, 16, 32), {"padding": 1}),
    ((3, 30, 37), (5, 5), (32, 32, 2), {"padding": 2}),
    ((8, 29, 26), (3, 3), (1, 2, 48), {"padding": 1}),
)


@pytest.mark.parametrize("case", LARGE, ids=str)
def test_bands_and_slots_are_right_on_any_thread(isa, case):
    (N, H, W), kernel, width, options = case
    given = arrays(N, H, W, kernel, width, options, integers)
    plain = results(given, algorithm="naive")
    for threads in (1, 2, 3, 8):
        with pycnn.num_threads(threads):
            _pycnn.last_team_size()
            ours = results(given)
            team = _pycnn.last_team_size()
        assert team > 1 or threads == 1 or not _pycnn.has_openmp()
        for result, exact in zip(ours, plain, strict=True):
            np.testing.assert_array_equal(result, exact, f"{threads} threads")


@pytest.mark.parametrize("case", LARGE, ids=str)
def test_bits_are_the_same_on_any_thread_and_isa(case):
    (N, H, W), kernel, width, options = case
    given = arrays(N, H, W, kernel, width, options, normal)
    first = None
    before = pycnn.isa()
    try:
        for isa in set(pycnn.available_isas()) - {"baseline"}:
            pycnn.use_isa(isa)
            for threads in (1, 2, 3, 8):
                with pycnn.num_threads(threads):
                    bits = [result.tobytes() for result in results(given)]
                first = first or bits
                assert bits == first, (isa, threads)
    finally:
        pycnn.use_isa(before)


@pytest.mark.parametrize("width", [(4, 4, 9), (16, 16, 2), (3, 5, 3), (17, 24, 2)], ids=str)
def test_bias_residual_and_relu(isa, width):
    """The residual may be y itself; what lies behind the last group stays as it was."""
    x, weight, bias, dy, options = arrays(2, 6, 9, (3, 3), width, {"padding": 1}, integers)
    exact = reference.conv2d(x, weight, bias, **options) + dy
    y = dy.copy()
    ops.conv2d(x, weight, bias, residual=y, activation="relu", out=y, **options)
    np.testing.assert_array_equal(y, np.maximum(exact, 0))
    assert (exact < 0).any(), "this case does not test relu"
    y = ops.conv2d(x, weight, residual=dy, **options)
    np.testing.assert_array_equal(y, exact - bias)


def test_auto_takes_it_for_narrow_groups_alone():
    for C, OC, groups in WIDTHS:
        found = ops.explain_conv2d((1, 5, 6, C * groups), (3, 3, C, OC * groups), groups=groups)
        assert found.forward == found.backward_input == found.backward_weight == "grouped"
    for C, OC, groups in ((33, 16, 2), (1, 1, 8), (16, 33, 2), (16, 16, 1)):
        found = ops.explain_conv2d((1, 5, 6, C * groups), (3, 3, C, OC * groups), groups=groups)
        assert "grouped" not in {found.forward, found.backward_input, found.backward_weight}


@pytest.mark.parametrize("width", [(4, 4, 9), (16, 16, 40), (3, 5, 3), (17, 24, 2)], ids=str)
def test_a_compiled_network_packs_once_and_keeps_the_bits(isa, width):
    """Packing is shared by threads; the last block of groups is ragged in two of the widths."""
    x, weight, bias, _, options = arrays(2, 6, 9, (3, 3), width, {"padding": 1}, normal)
    channels = x.shape[3], weight.shape[3]
    layer = pycnn.layers.Conv2d(*channels, 3, padding=1, groups=width[2], rng=0).eval()
    layer.weight.data[...], layer.bias.data[...] = weight, bias
    expected = ops.conv2d(x, weight, bias, **options)
    for threads in (1, 3):
        with pycnn.num_threads(threads):
            compiled = layer.compile_inference((None, *x.shape[1:]))
            layer.weight.data[...] = 0
            np.testing.assert_array_equal(compiled(x), expected)
            layer.weight.data[...] = weight


def test_threads_share_bands_of_rows():
    """56x56 in two blocks of groups: without bands 16 threads would have two units."""
    for direction in ("forward", "backward_input", "backward_weight"):
        shape = _pycnn.Conv2dShape(
            (1, 56, 56, 32), (3, 3, 4, 32), (1, 1), (1,) * 4, (1, 1), 8, False
        )
        assert shape.choice(direction)[0] == "grouped"
        assert shape.balance(direction, 16) >= 0.5, direction
