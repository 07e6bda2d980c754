"""Depthwise convolution in tiles: remainders of rows, columns, channels; streams, slots."""

import functools

import _pycnn
import numpy as np
import pytest

import pycnn
from pycnn import ops

PADDINGS = ("same", 0, 1, 2, 5, ((0, 2), (3, 1)))
SIZES = ((1, 1), (2, 3), (6, 5), (7, 7), (12, 9))
CHANNELS = (5, 15, 16, 17, 24, 33, 80)
# Pixels may lie 2 or 4 KB apart; results of half of L3 are streamed; batches fill slots, unevenly
# here; other kernels go row by row. All are large enough for two threads.
LARGE = {
    "512_channels": ((12, 7, 7, 512), 3, 1),
    "1024_channels": ((8, 6, 5, 1024), 3, 1),
    "512_channels_stride_2": ((9, 14, 13, 512), 3, 2),
    "5x5": ((16, 8, 9, 512), 5, 1),
    "5x5_stride_2": ((32, 15, 14, 200), 5, 2),
    "streamed": ((1, 101, 99, 32), 3, 1),
    "streamed_stride_2": ((3, 75, 74, 32), 3, 2),
    "streamed_5x5_stride_2": ((3, 75, 74, 32), 5, 2),
    "slots": ((17, 20, 19, 48), 3, 1),
    "slots_stride_2": ((17, 21, 18, 130), 3, 2),
    "slots_5x5": ((19, 17, 14, 48), 5, 1),
    "rows": ((18, 20, 19, 48), 7, 1),
    "rows_stride_2": ((64, 20, 19, 80), 7, 2),
}


def integers(rng, *shape):
    return np.float32(rng.integers(-4, 5, shape))


def arrays(x_shape, kernel, stride, padding, make=integers):
    """(x, weight, bias, dy, options), or None where the kernel does not fit."""
    rng = np.random.default_rng(7)
    C = x_shape[3]
    x, weight = make(rng, *x_shape), make(rng, kernel, kernel, 1, C)
    options = {"stride": stride, "padding": padding, "groups": C}
    try:
        shape = ops.conv2d(x, weight, algorithm="naive", **options).shape
    except ValueError:
        return None
    return x, weight, make(rng, C), make(rng, *shape), options


def calls(given, **extra):
    """The three directions, each to be called; forward with bias and relu, and over a residual."""
    x, weight, bias, dy, options = given
    options = {**options, **extra}

    def unwritten(like):
        room = np.full(like.size + 16, np.nan, np.float32)  # streamed only from a multiple of 64
        start = -room.ctypes.data % 64 // 4
        return room[start : start + like.size].reshape(like.shape)

    def over_residual():
        y = unwritten(dy)
        y[:] = dy
        return ops.conv2d(x, weight, bias, residual=y, activation="relu", out=y, **options)

    return (
        lambda: ops.conv2d(x, weight, bias, activation="relu", out=unwritten(dy), **options),
        over_residual,
        lambda: ops.conv2d_backward_input(dy, weight, x.shape, out=unwritten(x), **options),
        lambda: ops.conv2d_backward_weight(x, dy, weight.shape, out=unwritten(weight), **options),
    )


def assert_right(given):
    for ours, plain in zip(calls(given), calls(given, algorithm="naive"), strict=True):
        np.testing.assert_array_equal(ours(), plain())


def on_threads(call, threads):
    """The result, of a call that did run on several threads if it could."""
    with pycnn.num_threads(threads):
        _pycnn.last_team_size()
        result = call()
        team = _pycnn.last_team_size()
    alone = threads == 1 or not _pycnn.has_openmp()
    assert team == 1 if alone else 1 < team <= threads, (threads, team)
    return result


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", SIZES)
def test_every_remainder_is_right(isa, size, kernel, stride):
    tried = 0
    for padding in PADDINGS:
        for C in CHANNELS:
            given = arrays((2, *size, C), kernel, stride, padding)
            if given:
                assert_right(given)
                tried += 1
    assert tried


@functools.lru_cache(maxsize=1)
def plain_results(case):
    """The arrays of a case, and the results of plain loops, for all instruction sets."""
    given = arrays(*LARGE[case], 1)
    return given, [plain() for plain in calls(given, algorithm="naive")]


@pytest.mark.parametrize("case", LARGE)
def test_streams_and_slots_are_right(isa, case, request):
    if case.startswith("streamed"):
        request.getfixturevalue("small_caches")
    given, results = plain_results(case)
    for ours, exact in zip(calls(given), results, strict=True):
        for threads in (1, 3):
            np.testing.assert_array_equal(on_threads(ours, threads), exact, f"{threads} threads")


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_rim_meets_no_infinite_number(isa, stride, kernel):
    """Taps outside the image are skipped, so Inf and NaN show where the plain loops show them."""
    for C in (17, 512):
        x, weight, bias, dy, options = arrays((2, 6, 7, C), kernel, stride, kernel // 2)
        weight[0, 2], weight[2, 1] = np.inf, np.nan
        assert_right((x, weight, bias, dy, options))
        x, weight, bias, dy, options = arrays((2, 6, 7, C), kernel, stride, kernel // 2)
        x[0, 0, 0], x[1, -1, -1], x[1, 2, -1] = np.inf, np.nan, -np.inf
        dy[0, -1, 0], dy[1, 0, -1] = np.nan, np.inf
        assert_right((x, weight, bias, dy, options))


@pytest.mark.parametrize("case", LARGE)
def test_threads_and_isas_give_the_same_bits(case):
    given = arrays(*LARGE[case], 1, make=lambda rng, *shape: rng.standard_normal(shape, np.float32))
    before, found = pycnn.isa(), {}
    try:
        for isa in pycnn.available_isas():
            pycnn.use_isa(isa)
            for threads in (1, 2, 3, 8):
                bits = [on_threads(call, threads).tobytes() for call in calls(given)]
                # The baseline has no fused multiply-add.
                assert found.setdefault(isa == "baseline", bits) == bits, (isa, threads)
    finally:
        pycnn.use_isa(before)
