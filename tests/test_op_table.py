"""What holds for every operator of the table: right numbers, whatever way the inputs lie."""

import numpy as np
import pytest
from op_table import OPERATORS, ROWS, check, expected, frozen

from pycnn import ops

FLOAT_ROWS = [row for row in ROWS if OPERATORS[row[0]].floats()]
IMAGE_ROWS = [row for row in ROWS if OPERATORS[row[0]].images]

every_row = pytest.mark.parametrize(("name", "key"), ROWS, ids=["-".join(row) for row in ROWS])
every_first_row = pytest.mark.parametrize("name", OPERATORS)


def first_sample(name):
    return next(iter(OPERATORS[name].samples.items()))


NO_OPERATORS = {  # shapes, explanations and types
    "NormGradients",
    "Normalised",
    "BatchNorm",
    "BatchNormGradients",
    "ConvNorm",
    "ConvNormGradients",
    "ConvPoolGradients",
    "Conv2dExplanation",
    "conv2d_output_shape",
    "conv_transpose2d_output_shape",
    "explain_conv2d",
    "pool2d_output_shape",
}
LISTS = {"concat"}  # of arrays, as argument: test_moves.py
BLOCKS = {
    "conv_pool",
    "conv_pool_backward",
    "conv2d_relu_backward",
    "conv2d_norm",
    "conv2d_norm_backward",
}  # float32 and NHWC alone: test_block.py


def test_the_table_holds_every_operator():
    assert set(OPERATORS) == set(ops.__all__) - NO_OPERATORS - BLOCKS - LISTS


@every_row
def test_results_lie_within_the_bound(isa, num_threads, name, key):
    """The samples are read-only: an operator that writes to an input fails here."""
    operator, sample = OPERATORS[name], OPERATORS[name].samples[key]
    check(operator(sample.arrays, sample.options), expected(name, key, np.float32), np.float32)


@pytest.mark.parametrize(("name", "key"), FLOAT_ROWS, ids=["-".join(row) for row in FLOAT_ROWS])
def test_float64_is_computed_in_float64(name, key):
    operator, sample = OPERATORS[name], OPERATORS[name].samples[key].astype(np.float64)
    check(operator(sample.arrays, sample.options), expected(name, key, np.float64), np.float64)


@every_first_row
def test_inputs_are_unchanged(name):
    """Writable ones too: nothing is written and put back."""
    operator, (_, sample) = OPERATORS[name], first_sample(name)
    arrays = [np.array(array) for array in sample.arrays]
    operator(arrays, sample.options)
    for array, original in zip(arrays, sample.arrays, strict=True):
        np.testing.assert_array_equal(array, original)


def transposed(array):
    """The same numbers, the first axis fastest in memory."""
    return np.asfortranarray(array)


def reversed_in_memory(array):
    flip = (slice(None, None, -1),) * array.ndim
    return np.ascontiguousarray(array[flip])[flip]


def every_second(array):
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def unaligned(array):
    room = np.zeros(array.nbytes + 1, np.uint8)
    shifted = room[1:].view(array.dtype).reshape(array.shape)
    shifted[...] = array
    return shifted


@every_first_row
@pytest.mark.parametrize("view", [transposed, reversed_in_memory, every_second, unaligned])
def test_any_stride_of_an_input_gives_the_same_bits(name, view):
    """All but those that are written in place: these must be contiguous (test_out_arrays)."""
    operator, (_, sample) = OPERATORS[name], first_sample(name)
    arrays = [
        array if role in operator.updated else frozen(view(array))
        for role, array in zip(operator.arrays, sample.arrays, strict=True)
    ]
    results = operator(arrays, sample.options)
    for result, plain in zip(results, operator(sample.arrays, sample.options), strict=True):
        np.testing.assert_array_equal(result, plain)


@every_first_row
def test_offset_inputs_give_the_same_bits(isa, name):
    """Vector loads must not need the alignment that fresh arrays happen to have."""
    operator, (_, sample) = OPERATORS[name], first_sample(name)
    plain = operator(sample.arrays, sample.options)
    for offset in (1, 3):
        arrays = []
        for array in sample.arrays:
            room = np.zeros(array.size + offset, array.dtype)
            room[offset:] = array.ravel()
            arrays.append(room[offset:].reshape(array.shape))
        for result, same in zip(operator(arrays, sample.options), plain, strict=True):
            np.testing.assert_array_equal(result, same)


def to_nchw(array):
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(("name", "key"), IMAGE_ROWS, ids=["-".join(row) for row in IMAGE_ROWS])
def test_nchw_gives_the_numbers_of_nhwc(isa, name, key):
    operator, sample = OPERATORS[name], OPERATORS[name].samples[key]
    arrays = [
        to_nchw(array) if role in operator.images else array
        for role, array in zip(operator.arrays, sample.arrays, strict=True)
    ]
    options = {**sample.options, "data_format": "NCHW"}
    if "input_shape" in options:
        n, h, w, c = options["input_shape"]
        options["input_shape"] = (n, c, h, w)
    results = operator(arrays, options)
    for result, plain in zip(results, operator(sample.arrays, sample.options), strict=True):
        assert result.flags.c_contiguous
        np.testing.assert_array_equal(result, to_nchw(plain) if operator.image_result else plain)


@pytest.mark.parametrize("name", [name for name in OPERATORS if OPERATORS[name].batch])
def test_an_empty_batch_works(isa, name):
    operator, (_, sample) = OPERATORS[name], first_sample(name)
    arrays, options = list(sample.arrays), dict(sample.options)
    for role in operator.batch:
        at = operator.arrays.index(role)
        arrays[at] = arrays[at][:0]
    if "input_shape" in options:
        options["input_shape"] = (0, *options["input_shape"][1:])
    results = operator(arrays, options)
    if isinstance(results[0], float):  # a loss
        assert results[0] == 0
        assert results[1].shape == arrays[0].shape
        return
    full = operator(sample.arrays, sample.options)
    for result, plain in zip(results, full, strict=True):
        assert result.dtype == plain.dtype
        if name.endswith(("_backward_weight", "_backward_bias")):
            np.testing.assert_array_equal(result, np.zeros_like(plain))
        else:
            assert result.shape == (0, *plain.shape[1:])
