"""add, subtract, multiply, affine: special numbers, rounding; concat and split: every rank."""

import numpy as np
import pytest
from op_table import frozen

import pycnn
from pycnn import ops

SPECIAL = np.array([0.0, -0.0, 1.5, -1.5, np.nan, np.inf, -np.inf, 1e-42], np.float32)


def pairs(dtype=np.float32):
    """Every special number with every other, and enough of them for whole vectors and a rest."""
    a, b = np.meshgrid(SPECIAL, SPECIAL)
    return a.ravel().astype(dtype)[:61], b.ravel().astype(dtype)[:61]


ARITHMETIC = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ARITHMETIC)
def test_special_numbers_have_the_bits_of_numpy(isa, name, dtype):
    a, b = pairs(dtype)
    with np.errstate(all="ignore"):
        expected = ARITHMETIC[name](a, b)
    result = getattr(ops, name)(a, b)
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(
        np.signbit(result)[expected == 0], np.signbit(expected)[expected == 0]
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_add_with_relu_is_relu_of_add(isa, dtype):
    a, b = pairs(dtype)
    y = ops.add(a, b, activation="relu")
    np.testing.assert_array_equal(y, ops.relu(ops.add(a, b)))
    assert np.isnan(y[np.isnan(a)]).all(), "NaN stays NaN"
    assert (y[~np.isnan(y)] >= 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_affine_rounds_product_and_sum(isa, num_threads, rng, dtype):
    """The bits of NumPy, which has no fused multiply-add: the same for every instruction set."""
    x = rng.standard_normal(10_007).astype(dtype)
    scale, shift = 1.1, -0.37
    np.testing.assert_array_equal(ops.affine(x, scale, shift), x * dtype(scale) + dtype(shift))


@pytest.mark.parametrize("name", ARITHMETIC)
def test_an_array_with_itself_and_in_place(isa, name, rng):
    a = rng.standard_normal((3, 37), dtype=np.float32)
    expected = ARITHMETIC[name](a, a)
    function = getattr(ops, name)
    np.testing.assert_array_equal(function(a, a), expected)
    assert function(a, a, out=a) is a
    np.testing.assert_array_equal(a, expected)


@pytest.mark.parametrize("name", [*ARITHMETIC, "affine"])
def test_large_arrays_have_the_same_bits_on_threads(name, rng):
    a, b = rng.standard_normal((2, 1_500_013), dtype=np.float32)
    results = []
    for threads in (1, 2, 3):
        with pycnn.num_threads(threads):
            arguments = (a, 0.3, 0.1) if name == "affine" else (a, b)
            results.append(getattr(ops, name)(*arguments))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


# concat and split

WIDTHS = [(16,), (3, 1, 17), (1, 1), (8, 32, 8), (0, 5)]
AXES = [(), (7,), (2, 5, 3)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axes", AXES, ids=str)
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_concat_and_split_are_numpys(num_threads, widths, axes, dtype):
    size = 1
    parts = []
    for width in widths:
        shape = (*axes, width)
        count = int(np.prod(shape))
        parts.append(frozen(np.arange(size, size + count).astype(dtype).reshape(shape)))
        size += count
    whole = ops.concat(parts)
    assert whole.dtype == dtype
    np.testing.assert_array_equal(whole, np.concatenate(parts, axis=-1))
    pieces = ops.split(frozen(whole), widths)
    assert isinstance(pieces, list)
    for piece, part in zip(pieces, parts, strict=True):
        np.testing.assert_array_equal(piece, part)
        assert not np.shares_memory(piece, whole)


def test_many_rows_go_to_threads(rng):
    parts = [rng.standard_normal((60_000, width), dtype=np.float32) for width in (24, 7)]
    for threads in (1, 2, 3):
        with pycnn.num_threads(threads):
            whole = ops.concat(parts)
            np.testing.assert_array_equal(whole, np.concatenate(parts, axis=-1))
            for piece, part in zip(ops.split(whole, (24, 7)), parts, strict=True):
                np.testing.assert_array_equal(piece, part)


def test_concat_writes_out_and_nothing_beside_it(rng):
    a, b = (rng.standard_normal((5, width), dtype=np.float32) for width in (3, 4))
    room = np.full(5 * 7 + 20, -7, np.float32)
    out = room[10:45].reshape(5, 7)
    assert ops.concat([a, b], out=out) is out
    np.testing.assert_array_equal(out, np.concatenate([a, b], axis=-1))
    assert (room[:10] == -7).all()
    assert (room[45:] == -7).all()


def test_one_array_may_come_twice(rng):
    a = rng.standard_normal((5, 3), dtype=np.float32)
    np.testing.assert_array_equal(ops.concat((a, a, a)), np.tile(a, 3))


def test_split_skips_what_is_not_wanted(rng):
    x = rng.standard_normal((4, 10), dtype=np.float32)
    middle = np.full((4, 3), np.nan, np.float32)
    pieces = ops.split(x, [5, 3, 2], out=[None, middle, None])
    assert pieces[0] is None
    assert pieces[1] is middle
    assert pieces[2] is None
    np.testing.assert_array_equal(middle, x[:, 5:8])


def test_gaps_are_copied(rng):
    a = rng.standard_normal((4, 10), dtype=np.float32)
    np.testing.assert_array_equal(
        ops.concat([a[:, ::2], a.T[:4]]), np.concatenate([a[:, ::2], a.T[:4]], axis=-1)
    )
    for piece, part in zip(ops.split(a[:, ::2], [2, 3]), (a[:, :4:2], a[:, 4::2]), strict=True):
        np.testing.assert_array_equal(piece, part)


_A = np.zeros((2, 3, 4), np.float32)
_SHARED = np.zeros((2, 3, 8), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ops.concat([]), ValueError, r"^concat: arrays is empty; expected at least one"),
        (lambda: ops.concat(_A), TypeError, r"^concat: arrays is a ndarray; expected a list"),
        (lambda: ops.concat([_A, None]), TypeError, r"^concat: arrays\[1\] is None; expected a"),
        (lambda: ops.concat([_A, np.float32(1)]), ValueError, r"arrays\[1\] has no axes"),
        (
            lambda: ops.concat([_A, _A[:, :2]]),
            ValueError,
            r"arrays\[1\] .*\(2, 2, 4\).*\(2, 3, 4\)",
        ),
        (lambda: ops.concat([_A, _A[0]]), ValueError, r"arrays\[1\] has shape \(3, 4\)"),
        (lambda: ops.concat([_A, np.float64(_A)]), TypeError, r"arrays\[1\] is float64.*one type"),
        (lambda: ops.concat([np.int64(_A)]), TypeError, r"arrays\[0\] is int64; expected float32"),
        (lambda: ops.concat([_A, _A], out=_A), ValueError, r"out has shape .*expected \(2, 3, 8\)"),
        (
            lambda: ops.concat([_SHARED.ravel()[:8], _A.ravel()[:2]], out=_SHARED.ravel()[4:14]),
            ValueError,
            r"out shares memory with arrays\[0\]",
        ),
        (
            lambda: ops.split(_SHARED, [4, 4], out=[_A, _A]),
            ValueError,
            r"out\[1\] shares memory with another array of out",
        ),
        (
            lambda: ops.split(_SHARED.ravel()[:8], [4, 4], out=[None, _SHARED.ravel()[2:6]]),
            ValueError,
            r"out\[1\] shares memory with x",
        ),
        (lambda: ops.split(_SHARED, [4, 4], out=[None, _A[0]]), ValueError, r"out\[1\] has shape"),
        (lambda: ops.split(_A, [4], out=[np.float64(_A)]), TypeError, r"out\[0\] is float64"),
        (lambda: ops.split(_A, 4), TypeError, r"^split: sizes is an int; expected a list of ints"),
        (lambda: ops.split(_A, [4], out=_A), TypeError, r"^split: out is a ndarray; expected a l"),
    ],
)
def test_what_does_not_fit_is_a_sentence(call, error, words):
    with pytest.raises(error, match=words):
        call()
