"""Linear in a compiled network: packed panels, every remainder of columns, rows and KC, bits."""

import numpy as np
import pytest
import tolerance

import pycnn
from pycnn import layers

IN = [1, 513, 1030]  # KC is 512: one, two and three cuts
OUT = [1, 16, 17, 33, 70, 129]  # of panels of 16 and of 32: one short, two and more, the rest
ROWS = [1, 2, 15, 87]  # 84 rows are copied at a time


def compiled(rng, n_in, n_out, bias, relu):
    linear = layers.Linear(n_in, n_out, bias=bias)
    linear.weight.data[...] = rng.standard_normal((n_in, n_out))
    if bias:
        linear.bias.data[...] = rng.standard_normal(n_out)
    model = layers.Sequential(linear, *([layers.ReLU()] if relu else []))
    return linear, model.compile_inference((None, n_in))


@pytest.mark.parametrize("n_out", OUT)
@pytest.mark.parametrize("n_in", IN)
def test_values_and_bits(rng, isa, num_threads, n_in, n_out):
    bias, relu = n_out % 2 == 1, n_in > 1
    linear, model = compiled(rng, n_in, n_out, bias, relu)
    x = rng.standard_normal((ROWS[-1], n_in)).astype(np.float32)
    exact = x.astype(np.float64) @ linear.weight.data
    bound = tolerance.matmul(x, linear.weight.data)
    if bias:
        exact += linear.bias.data
        bound = bound * 2 + np.abs(linear.bias.data) * 1e-6
    whole = model(x)
    tolerance.assert_within(whole, np.maximum(exact, 0) if relu else exact, bound)
    assert not relu or (whole == 0).any() or n_out == 1
    for N in ROWS:
        np.testing.assert_array_equal(model(x[:N]), whole[:N])
    alone = np.concatenate([model(row[None]) for row in x[-3:]])
    np.testing.assert_array_equal(alone, whole[-3:])


def test_the_same_bits_on_avx2_and_avx512_and_any_number_of_threads(rng):
    _, model = compiled(rng, 700, 200, True, True)
    x = rng.standard_normal((5, 700)).astype(np.float32)
    expected = {N: model(x[:N]) for N in (1, 5)}
    for isa in set(pycnn.available_isas()) - {"baseline"}:
        before = pycnn.isa()
        pycnn.use_isa(isa)
        try:
            for threads in (1, 2, 3, 8):
                with pycnn.num_threads(threads):
                    for N, y in expected.items():
                        np.testing.assert_array_equal(model(x[:N]), y)
        finally:
            pycnn.use_isa(before)


def test_nan_and_infinity_of_x_stay_in_their_row(rng):
    linear, model = compiled(rng, 40, 20, True, True)
    x = rng.standard_normal((3, 40)).astype(np.float32)
    clean = model(x)
    x[1, 7] = np.nan
    y = model(x)
    assert np.isnan(y[1]).all()
    assert np.isnan(model(x[1:2])).all()
    np.testing.assert_array_equal(y[[0, 2]], clean[[0, 2]])
    x[1, 7] = np.inf
    signs = linear.weight.data[7] > 0
    np.testing.assert_array_equal(model(x)[1], np.where(signs, np.inf, 0))
