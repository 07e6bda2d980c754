"""matmul: every remainder of the register tile and of the blocks, both transposes, any threads.

This file alone tells whether the vector kernels of a strange machine work.
"""

import functools

import _pycnn
import numpy as np
import pytest
import reference
import tolerance
from hypothesis import given, settings
from hypothesis import strategies as st

from pycnn import ops

# m against MR, n against NR, k against KC: the tile sizes are the active instruction set's own.
M = {"m_1": (0, 1), "m_lt_mr": (1, -1), "m_eq_mr": (1, 0), "m_gt_mr": (1, 1), "m_tail": (2, 3)}
N = {"n_1": (0, 1), "n_lt_nr": (1, -1), "n_eq_nr": (1, 0), "n_gt_nr": (1, 1), "n_tail": (2, 3)}
K = {
    "k_0": (0, 0),
    "k_1": (0, 1),
    "k_2": (0, 2),
    "k_7": (0, 7),
    "k_lt_kc": (1, -1),
    "k_eq_kc": (1, 0),
    "k_gt_kc": (1, 1),
}
TRANSPOSES = [(False, False), (True, False), (False, True), (True, True)]


def size(times_and_rest, block):
    times, rest = times_and_rest
    return times * _pycnn.tile_sizes()[block] + rest


@functools.cache
def product(m, n, k, kind):
    """(a, b, exact, bound): small integers, whose sums are exact in float32, or normal numbers."""
    rng = np.random.default_rng((m, n, k))
    if kind == "integers":
        a, b = (np.float32(rng.integers(-8, 9, shape)) for shape in ((m, k), (k, n)))
        return a, b, reference.matmul(a, b), 0.0
    a, b = (rng.standard_normal(shape, np.float32) for shape in ((m, k), (k, n)))
    return a, b, reference.matmul(a, b), tolerance.matmul(a, b)


def check_all_transposes(m, n, k, kind):
    """`out` is full of NaN, so an element that is not written, or read first, shows."""
    a, b, exact, bound = product(m, n, k, kind)
    for transpose_a, transpose_b in TRANSPOSES:
        c = ops.matmul(
            np.ascontiguousarray(a.T) if transpose_a else a,
            np.ascontiguousarray(b.T) if transpose_b else b,
            transpose_a=transpose_a,
            transpose_b=transpose_b,
            out=np.full((m, n), np.nan, np.float32),
        )
        what = f"{m} x {n} x {k}, transpose_a={transpose_a}, transpose_b={transpose_b}"
        tolerance.assert_within(c, exact, bound, what)


def test_the_tile_sizes_make_sense(isa):
    sizes = _pycnn.tile_sizes()
    assert set(sizes) >= {"MR", "NR", "MC", "KC", "NC"}
    assert sizes["NR"] % 16 == 0
    assert sizes["MC"] % sizes["MR"] == 0
    assert sizes["NC"] % sizes["NR"] == 0


@pytest.mark.parametrize("kind", ["integers", "normal"])
@pytest.mark.parametrize("k", K)
@pytest.mark.parametrize("n", N)
@pytest.mark.parametrize("m", M)
def test_every_remainder_of_the_tile(isa, m, n, k, kind):
    check_all_transposes(size(M[m], "MR"), size(N[n], "NR"), size(K[k], "KC"), kind)


@pytest.mark.parametrize("kind", ["integers", "normal"])
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [
        ((1, 1), (0, 33), (0, 5)),
        ((2, 5), (0, 17), (0, 3)),
        ((0, 3), (1, 1), (0, 3)),
        ((1, 3), (0, 5), (2, 1)),
        ((0, 1), (1, -1), (0, 9)),
    ],
    ids=["m_gt_mc", "m_two_mc", "n_gt_nc", "k_two_kc", "one_row_n_lt_nc"],
)
def test_every_remainder_of_the_blocks(isa, num_threads, m, n, k, kind):
    check_all_transposes(size(m, "MC"), size(n, "NC"), size(k, "KC"), kind)


@pytest.mark.parametrize(
    ("m", "n", "k"),
    [(100, 10, 2048), (2048, 10, 100), (100, 2048, 10), (1, 10, 2048), (1, 257, 300), (3, 1, 999)],
    ids=lambda value: str(value),
)
def test_the_shapes_of_a_linear_layer(isa, num_threads, m, n, k):
    """Narrow and flat products may have loops of their own: forward, both gradients, batch of 1."""
    check_all_transposes(m, n, k, "normal")


def test_no_terms_give_zeros(isa):
    for m, n in ((1, 1), (5, 33), (0, 4), (4, 0)):
        c = ops.matmul(
            np.ones((m, 0), np.float32),
            np.ones((0, n), np.float32),
            out=np.full((m, n), np.nan, np.float32),
        )
        np.testing.assert_array_equal(c, np.zeros((m, n), np.float32))


def test_nan_and_infinity_reach_only_their_row_and_column(isa, rng):
    a, b = (np.float32(rng.integers(1, 9, shape)) for shape in ((19, 30), (30, 37)))
    exact = reference.matmul(a, b)
    a[4, 7], b[29, 36] = np.nan, np.inf
    c = ops.matmul(a, b)
    assert np.isnan(c[4]).all()
    assert np.isinf(np.delete(c[:, 36], 4)).all()
    rest = np.delete(np.delete(c, 4, axis=0), 36, axis=1)
    np.testing.assert_array_equal(rest, np.delete(np.delete(exact, 4, axis=0), 36, axis=1))


def test_float64_has_float64s_precision(rng):
    a, b = rng.standard_normal((9, 300)), rng.standard_normal((300, 20))
    tolerance.assert_within(ops.matmul(a, b), reference.matmul(a, b), tolerance.matmul(a, b))


@settings(max_examples=60)
@given(m=st.integers(0, 70), n=st.integers(0, 70), k=st.integers(0, 70))
def test_any_shape(isa, m, n, k):
    check_all_transposes(m, n, k, "integers")
    check_all_transposes(m, n, k, "normal")
