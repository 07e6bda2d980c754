"""Bad inputs: the exception's type, and a message that says what came and what was expected."""

import _pycnn
import numpy as np
import pytest
from bad_inputs import BAD
from op_table import OPERATORS

CASES = [(name, key) for name, cases in BAD.items() for key in cases]
FLOATS = [(name, array) for name, operator in OPERATORS.items() for array in operator.floats()]
MIXED = [case for case in FLOATS if len(OPERATORS[case[0]].floats()) > 1]


def sentence(operator, *words):
    """A pattern: the operator's name, or its forward one's, and all of these words in any order."""
    first = operator.name.partition("_backward")[0]
    return f"(?s){first}" + "".join(f"(?=.*(?:{word}))" for word in words)


def refused(operator, arrays, options, exception, *words):
    """The call raises, says it in a sentence, and all arrays stay as they were."""
    before = [None if array is None else array.copy() for array in arrays]
    call = operator if not operator.updated else in_place(operator)
    with pytest.raises(exception, match=sentence(operator, *words)) as caught:
        call(arrays, options)
    assert len(str(caught.value).split()) >= 5, "not a sentence"
    for array, original in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, original)


def in_place(operator):
    """The operator on the arrays themselves, not on copies of those that it updates."""
    from pycnn import ops

    return lambda arrays, options: getattr(ops, operator.name)(*arrays, **options)


def arguments(operator, changes):
    """Writable copies of the first sample's arrays and its options, changed; a list stays one."""
    sample = next(iter(operator.samples.values()))
    arrays = [
        changes.get(role, array) for role, array in zip(operator.arrays, sample.arrays, strict=True)
    ]
    arrays = [np.array(array) if isinstance(array, np.ndarray) else array for array in arrays]
    options = {key: value for key, value in changes.items() if key not in operator.arrays}
    return arrays, {**sample.options, **options}


def test_every_operator_has_its_bad_inputs():
    assert set(BAD) == set(OPERATORS)


@pytest.mark.parametrize(("name", "key"), CASES, ids=["-".join(case) for case in CASES])
def test_bad_inputs_are_refused_in_a_sentence(name, key):
    operator, bad = OPERATORS[name], BAD[name][key]
    arrays, options = arguments(operator, bad.changes)
    refused(operator, arrays, options, bad.exception, *bad.words)


@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.complex64, np.bool_])
@pytest.mark.parametrize(("name", "array"), FLOATS, ids=["-".join(case) for case in FLOATS])
def test_a_type_that_is_not_computed_is_refused(name, array, dtype):
    operator = OPERATORS[name]
    sample = next(iter(operator.samples.values()))
    wrong = sample.arrays[operator.arrays.index(array)].astype(dtype)
    arrays, options = arguments(operator, {array: wrong})
    refused(operator, arrays, options, TypeError, rf"\b{array}\b", np.dtype(dtype).name, "float32")


@pytest.mark.parametrize(("name", "array"), MIXED, ids=["-".join(case) for case in MIXED])
def test_two_float_types_in_one_call_are_refused(name, array):
    operator = OPERATORS[name]
    sample = next(iter(operator.samples.values()))
    wrong = sample.arrays[operator.arrays.index(array)].astype(np.float64)
    arrays, options = arguments(operator, {array: wrong})
    refused(operator, arrays, options, TypeError, "float32", "float64")


ANY_RANK = {"channel_shuffle", "pad", "crop"}  # images, and rows without pixels as well
RANKED = [
    (name, array)
    for name, operator in OPERATORS.items()
    for array in operator.arrays
    if (array in operator.images and name not in ANY_RANK) or array in ("weight", "bias")
]


@pytest.mark.parametrize(("name", "array"), RANKED, ids=["-".join(case) for case in RANKED])
def test_a_missing_axis_is_named(name, array):
    operator = OPERATORS[name]
    sample = next(iter(operator.samples.values()))
    wrong = sample.arrays[operator.arrays.index(array)][0]
    arrays, options = arguments(operator, {array: wrong})
    refused(
        operator, arrays, options, ValueError, rf"\b{array}\b", r"\[[A-Z/a-z]+(, [A-Z/a-z]+)*\]"
    )


ARRAYS = [(name, array) for name, operator in OPERATORS.items() for array in operator.arrays]
OPTIONAL = {
    ("conv2d", "bias"),
    ("conv_transpose2d", "bias"),
    ("linear", "bias"),
    ("layer_norm", "bias"),
    ("sgd_step", "velocity"),
    ("rmsprop_step", "buffer"),
}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "None"),
        ("x.npy", "a str"),
        ({"x": 1.0}, "a dict"),
        ([1.0, None], "a list"),
        (["1.0"], "a list"),
    ],
)
@pytest.mark.parametrize(("name", "array"), ARRAYS, ids=["-".join(case) for case in ARRAYS])
def test_what_is_no_array_is_called_by_its_kind(name, array, value, said):
    if value is None and (name, array) in OPTIONAL:
        return
    operator = OPERATORS[name]
    arrays, options = arguments(operator, {array: value})
    with pytest.raises(TypeError) as caught:
        in_place(operator)(arrays, options)
    message = str(caught.value)
    assert message.startswith(f"{name}: {array} is {said}")
    assert "expected a NumPy array" in message
    assert "astype" not in message


def test_rows_of_different_lengths_are_a_sentence():
    from pycnn import ops

    with pytest.raises(ValueError, match=r"^relu: x is a list that makes no array: .*shape"):
        ops.relu([[1.0, 2.0], [3.0]])


@pytest.mark.parametrize("name", [name for name in OPERATORS if OPERATORS[name].has_out])
def test_an_out_that_is_no_array_is_called_by_its_kind(name):
    operator = OPERATORS[name]
    arrays, options = arguments(operator, {"out": "y.npy"})
    with pytest.raises(TypeError, match=rf"^{name}: out is a str; expected a "):
        in_place(operator)(arrays, options)


def test_a_result_too_large_for_conv2d_has_no_shape_and_no_explanation():
    from pycnn import ops

    shapes, options = ((1, 28, 28, 16), (3, 3, 16, 16)), {"padding": 2**31 - 1}
    words = r"the result would have shape \(1, 4294967320, 4294967320, 16\).*padding"
    for question in (ops.conv2d_output_shape, ops.explain_conv2d):
        with pytest.raises(ValueError, match=words):
            question(*shapes, **options)


@pytest.mark.parametrize("flag", [True, False, np.True_])
@pytest.mark.parametrize("name", ["stride", "padding", "dilation", "groups"])
def test_a_flag_is_no_size_of_a_convolution(name, flag):
    from pycnn import ops

    x, weight = np.zeros((1, 5, 4, 1), np.float32), np.zeros((1, 1, 1, 1), np.float32)
    for value in (flag, (flag, flag)) if name != "groups" else (flag,):
        with pytest.raises(ValueError, match=rf"conv2d: {name} is .*{flag}.*; expected"):
            ops.conv2d(x, weight, **{name: value})
        ops.conv2d(x, weight, **{name: 1})  # the shape that is remembered is not that of True


def test_an_unknown_direction_is_refused():
    shape = _pycnn.Conv2dShape((1, 8, 8, 4), (3, 3, 4, 4), (1, 1), (1, 1, 1, 1), (1, 1), 1, False)
    for direction in ("forward", "backward_input", "backward_weight"):
        assert shape.choice(direction)
    with pytest.raises(ValueError, match=r'direction is "backward"; expected "forward", .*'):
        shape.choice("backward")
