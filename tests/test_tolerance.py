"""The bounds are tight enough to see one missing term, and the reference knows what it must."""

import numpy as np
import pytest
import reference
import tolerance
from op_table import OPERATORS


def test_gamma_is_the_textbooks():
    assert tolerance.gamma(0) == 0
    assert tolerance.gamma(1) == pytest.approx(2.0**-24, rel=1e-7)
    assert tolerance.gamma(1000) > 1000 * 2.0**-24
    assert tolerance.gamma(3, np.float64) < 1e-15


@pytest.mark.parametrize("k", [1, 10, 100, 1000])
def test_a_float32_sum_lies_within_its_bound_and_a_dropped_term_does_not(rng, k):
    a, b = rng.standard_normal((3, k), np.float32), rng.standard_normal((k, 4), np.float32)
    exact, bound = reference.matmul(a, b), tolerance.matmul(a, b)
    total = np.zeros((3, 4), np.float32)
    for p in range(k):
        total += np.outer(a[:, p], b[p])
    tolerance.assert_within(total, exact, bound)
    largest = np.argmax(np.abs(a[0] * b[:, 0]))
    a[0, largest] = 0
    with pytest.raises(AssertionError, match="out of bounds"):
        tolerance.assert_within(np.float32(reference.matmul(a, b)), exact, bound)


@pytest.mark.parametrize("name", OPERATORS)
def test_the_rounded_reference_passes_and_a_changed_element_does_not(name):
    """Were a bound too wide to see half an element go, no test that uses it could fail."""
    operator = OPERATORS[name]
    for sample in operator.samples.values():
        for exact, bound in operator.expected(sample):
            rounded = np.array(exact, dtype=np.float32)
            tolerance.assert_within(rounded, exact, bound, name)
            at = np.unravel_index(np.argmax(np.abs(rounded)), rounded.shape)
            for wrong in (0.5 * rounded[at] or 1.0, np.nan, np.inf):
                broken = rounded.copy()
                broken[at] = wrong
                with pytest.raises(AssertionError, match="out of bounds"):
                    tolerance.assert_within(broken, exact, bound)


@pytest.mark.parametrize("name", [n for n in OPERATORS if n.startswith("conv2d")])
def test_a_dropped_tap_of_a_convolution_fails_the_bound(name):
    operator = OPERATORS[name]
    sample = operator.samples["same"]
    ((exact, bound),) = operator.expected(sample)
    first = sample.arrays[0].copy()
    first[np.unravel_index(np.argmax(np.abs(first)), first.shape)] = 0
    dropped = getattr(reference, name)(first, *sample.arrays[1:], **sample.options)
    with pytest.raises(AssertionError, match="out of bounds"):
        tolerance.assert_within(np.float32(dropped), exact, bound)


def test_a_wrong_shape_fails():
    with pytest.raises(AssertionError, match="shape"):
        tolerance.assert_within(np.zeros((2, 1)), np.zeros(2), 1.0)


# (size, kernel, stride, dilation): (before, after), worked out by hand from TensorFlow's
# definition: ceil(size / stride) outputs, the smaller half before.
@pytest.mark.parametrize(
    ("axis", "padding"),
    [
        ((28, 3, 1, 1), (1, 1)),
        ((28, 2, 2, 1), (0, 0)),
        ((7, 2, 2, 1), (0, 1)),
        ((28, 3, 2, 1), (0, 1)),
        ((5, 3, 2, 1), (1, 1)),
        ((28, 4, 1, 1), (1, 2)),
        ((10, 2, 3, 1), (0, 1)),
        ((4, 1, 3, 1), (0, 0)),
        ((8, 3, 1, 2), (2, 2)),
        ((1, 5, 1, 1), (2, 2)),
    ],
)
def test_same_padding_is_tensorflows(axis, padding):
    assert reference.same_padding(*axis) == padding


def test_a_maximum_is_the_first_and_nan_wins():
    x = np.array([[3, 3, np.nan], [1, 3, np.nan], [-np.inf, -np.inf, 0]]).reshape(1, 3, 3, 1)
    y, indices = reference.max_pool2d(x, 2, 1, "same")
    np.testing.assert_array_equal(
        y[0, :, :, 0], [[3, np.nan, np.nan], [3, np.nan, np.nan], [-np.inf, 0, 0]]
    )
    np.testing.assert_array_equal(indices[0, :, :, 0], [[0, 2, 2], [4, 5, 5], [6, 8, 8]])
