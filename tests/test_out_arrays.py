"""`out=` and the arrays that are written in place: every element written, and nothing else."""

import re

import numpy as np
import pytest
from op_table import OPERATORS, check, expected

from pycnn import ops

WITH_OUT = [name for name, operator in OPERATORS.items() if operator.has_out]
UPDATED = [(name, role) for name, op in OPERATORS.items() for role in op.updated]
LAYOUTS = [(name, "NHWC") for name in WITH_OUT] + [
    (name, "NCHW") for name in WITH_OUT if OPERATORS[name].image_result
]
CANARY = -123  # no operator makes it, neither as a float nor as an index

every_out = pytest.mark.parametrize("name", WITH_OUT)
every_layout = pytest.mark.parametrize(
    ("name", "layout"), LAYOUTS, ids=[f"{name}-{layout}" for name, layout in LAYOUTS]
)


def first(name):
    """(key, arrays, options) of the first sample."""
    key, sample = next(iter(OPERATORS[name].samples.items()))
    return key, list(sample.arrays), dict(sample.options)


def results_of(name):
    operator, (_, arrays, options) = OPERATORS[name], first(name)
    return operator(arrays, options)


def in_layout(name, layout):
    """The call in this layout, as a function of `out`, and the results that it must give."""
    operator, (_, arrays, options) = OPERATORS[name], first(name)
    plain = operator(arrays, options)
    if layout == "NHWC":
        return (lambda out=None: operator(arrays, options, out)), plain
    turned = [
        np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if role in operator.images else array
        for role, array in zip(operator.arrays, arrays, strict=True)
    ]
    options["data_format"] = "NCHW"
    if "input_shape" in options:
        n, h, w, c = options["input_shape"]
        options["input_shape"] = (n, c, h, w)
    plain = tuple(np.ascontiguousarray(result.transpose(0, 3, 1, 2)) for result in plain)
    return (lambda out=None: operator(turned, options, out)), plain


def fenced(like, offset):
    """(an array of this shape full of NaN, what surrounds it before and after)."""
    room = np.full(like.size + offset + 67, CANARY, like.dtype)
    inside = room[offset : offset + like.size].reshape(like.shape)
    inside.fill(np.nan if like.dtype.kind == "f" else CANARY)
    return inside, (room[:offset], room[offset + like.size :])


@every_layout
@pytest.mark.parametrize("offset", [64, 65, 71])
def test_out_is_written_in_full_and_nothing_beside_it(isa, num_threads, name, layout, offset):
    call, plain = in_layout(name, layout)
    fences = [fenced(result, offset) for result in plain]
    out = tuple(inside for inside, _ in fences)
    results = call(out)
    for result, given, same, (_, around) in zip(results, out, plain, fences, strict=True):
        assert result is given
        np.testing.assert_array_equal(result, same)
        for part in around:
            np.testing.assert_array_equal(part, CANARY)


@pytest.mark.parametrize("name", [name for name in OPERATORS if not OPERATORS[name].updated])
def test_results_without_out_are_fresh(name):
    first_results, second_results = results_of(name), results_of(name)
    for a, b in zip(first_results, second_results, strict=True):
        if isinstance(a, np.ndarray):
            assert not np.may_share_memory(a, b)
        np.testing.assert_array_equal(a, b)


def refused(call, exception, *words):
    """The call says in a sentence about `out` what is wrong."""
    with pytest.raises(exception, match=r"\bout\b|\by\b|indices") as caught:
        call()
    for word in words:
        assert re.search(word, str(caught.value)), f"{word!r} is not in {str(caught.value)!r}"


def strided(like):
    """The right shape and type, with gaps."""
    return np.full((*like.shape[:-1], 2 * like.shape[-1]), CANARY, like.dtype)[..., ::2]


def longer(like):
    """The last axis is one too long."""
    return np.full((*like.shape[:-1], like.shape[-1] + 1), CANARY, like.dtype)


def wider(like):
    """A middle axis is one too long: W of an image."""
    shape = list(like.shape)
    shape[like.ndim // 2] += 1
    return np.full(shape, CANARY, like.dtype)


def flat(like):
    """As many elements, in one axis more."""
    return np.full((1, *like.shape), CANARY, like.dtype)


def other_type(like):
    return np.full(like.shape, CANARY, np.float64 if like.dtype == np.float32 else np.int64)


def read_only(like):
    array = np.full(like.shape, CANARY, like.dtype)
    array.flags.writeable = False
    return array


WRONG_OUT = [
    (strided, ValueError, ("contiguous",)),
    (longer, ValueError, ("shape|sizes",)),
    (wider, ValueError, ("shape|sizes",)),
    (flat, ValueError, ("shape|axes",)),
    (other_type, TypeError, ("float64|int64",)),
    (read_only, ValueError, ("read-only|writ",)),
]


@every_layout
@pytest.mark.parametrize(
    ("make", "exception", "words"), WRONG_OUT, ids=[make.__name__ for make, *_ in WRONG_OUT]
)
def test_a_wrong_out_is_refused_and_stays(name, layout, make, exception, words):
    call, plain = in_layout(name, layout)
    for position in range(len(plain)):
        out = [np.full(result.shape, CANARY, result.dtype) for result in plain]
        out[position] = make(plain[position])
        refused(lambda out=tuple(out): call(out), exception, *words)
        for array in out:
            np.testing.assert_array_equal(array, CANARY)


@every_out
def test_out_that_is_no_array_is_refused(name):
    operator, (_, arrays, options) = OPERATORS[name], first(name)
    refused(lambda: operator(arrays, options, ("text",)), TypeError)


def side_by_side(array, like, distance):
    """In one block of memory: a copy of the array, and room for out `distance` bytes after it."""
    room = np.zeros(array.nbytes + like.nbytes + 64, np.uint8)
    copy = room[: array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    distance -= distance % like.itemsize
    return copy, room[distance : distance + like.nbytes].view(like.dtype).reshape(like.shape)


OVERLAPS = [(name, role) for name in WITH_OUT for role in OPERATORS[name].arrays]


@pytest.mark.parametrize(("name", "role"), OVERLAPS, ids=["-".join(case) for case in OVERLAPS])
def test_out_may_touch_an_input_but_not_overlap_it(name, role):
    operator, (key, arrays, options) = OPERATORS[name], first(name)
    plain, at = operator(arrays, options), operator.arrays.index(role)
    rest = tuple(np.empty_like(result) for result in plain[1:])
    original = arrays[at]

    arrays[at], beside = side_by_side(original, plain[0], original.nbytes + 3)
    check(operator(arrays, options, (beside, *rest)), expected(name, key, np.float32), np.float32)

    arrays[at], overlapping = side_by_side(original, plain[0], original.nbytes - 4)
    refused(
        lambda: operator(arrays, options, (overlapping, *rest)),
        ValueError,
        rf"\b{role}\b",
        "memory",
    )
    np.testing.assert_array_equal(arrays[at], original)


SAME_SIZE = [
    (name, role)
    for name, role in OVERLAPS
    if first(name)[1][OPERATORS[name].arrays.index(role)].shape == results_of(name)[0].shape
    and role in OPERATORS[name].floats()
]


def attempt(call):
    """(what the call returns, None), or (None, what it complains about)."""
    try:
        return call(), None
    except ValueError as error:
        return None, str(error)


@pytest.mark.parametrize(("name", "role"), SAME_SIZE, ids=["-".join(case) for case in SAME_SIZE])
def test_an_input_as_out_is_right_or_refused(name, role):
    operator, (key, arrays, options) = OPERATORS[name], first(name)
    at = operator.arrays.index(role)
    arrays[at] = arrays[at].copy()
    original = arrays[at].copy()
    rest = tuple(np.empty_like(result) for result in results_of(name)[1:])
    if role in operator.in_place:
        results = operator(arrays, options, (arrays[at], *rest))
        assert results[0] is arrays[at]
        check(results, expected(name, key, np.float32), np.float32)
        return
    results, complaint = attempt(lambda: operator(arrays, options, (arrays[at], *rest)))
    if complaint:
        assert "memory" in complaint
        np.testing.assert_array_equal(arrays[at], original)
    else:
        check(results, expected(name, key, np.float32), np.float32)


def test_the_maxima_and_their_indices_must_not_share_memory():
    _, (x,), options = first("max_pool2d")
    y, indices = ops.max_pool2d(x, return_indices=True, **options)
    room = np.empty(y.shape, np.float32)
    with pytest.raises(ValueError, match="memory"):
        ops.max_pool2d(x, return_indices=True, out=(room, room.view(indices.dtype)), **options)
    alone = np.empty_like(y)
    assert ops.max_pool2d(x, out=alone, **options) is alone
    np.testing.assert_array_equal(alone, y)


@pytest.mark.parametrize(("name", "role"), UPDATED, ids=["-".join(case) for case in UPDATED])
@pytest.mark.parametrize("make", [strided, read_only], ids=lambda make: make.__name__)
def test_an_array_that_is_updated_must_be_contiguous_and_writable(name, role, make):
    operator, (_, arrays, options) = OPERATORS[name], first(name)
    arrays = [array.copy() for array in arrays]
    at = operator.arrays.index(role)
    arrays[at] = make(arrays[at])
    before = [array.copy() for array in arrays]
    with pytest.raises(ValueError, match=rf"\b{role}\b.*(contiguous|read-only)"):
        getattr(ops, name)(*arrays, **options)
    for array, same in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, same)


@pytest.mark.parametrize(("name", "role"), UPDATED, ids=["-".join(case) for case in UPDATED])
def test_updated_arrays_must_not_share_memory(name, role):
    operator, (_, arrays, options) = OPERATORS[name], first(name)
    at = operator.arrays.index(role)
    for other in range(len(arrays)):
        if other != at:
            shared = [array.copy() for array in arrays]
            shared[other] = shared[at]
            with pytest.raises(ValueError, match="memory"):
                getattr(ops, name)(*shared, **options)


@pytest.mark.parametrize("name", sorted({name for name, _ in UPDATED}))
@pytest.mark.parametrize("offset", [64, 67])
def test_an_update_writes_nothing_beside_its_arrays(isa, num_threads, name, offset):
    operator, (_, arrays, options) = OPERATORS[name], first(name)
    fences = [fenced(array, offset) for array in arrays]
    for (inside, _), array in zip(fences, arrays, strict=True):
        inside[...] = array
    getattr(ops, name)(*(inside for inside, _ in fences), **options)
    plain = dict(zip(operator.updated, operator(arrays, options), strict=True))
    for role, (inside, around), array in zip(operator.arrays, fences, arrays, strict=True):
        np.testing.assert_array_equal(inside, plain.get(role, array))
        for part in around:
            np.testing.assert_array_equal(part, CANARY)


@pytest.mark.parametrize("shift", [0, 1, 20])
def test_an_nchw_out_must_not_overlap_an_input(shift):
    """Also as another view of its memory, which no comparison of two arrays finds."""
    room = np.arange(200, dtype=np.float32)
    x, out = (room[start : start + 90].reshape(2, 3, 5, 3) for start in (0, shift))
    before = room.copy()
    weight = np.ones((1, 1, 3, 3), np.float32)
    for call in (
        lambda: ops.conv2d(x, weight, data_format="NCHW", out=out),
        lambda: ops.max_pool2d(x, 1, data_format="NCHW", out=out),
        lambda: ops.avg_pool2d(x, 1, data_format="NCHW", out=out),
    ):
        with pytest.raises(ValueError, match="out shares memory with x"):
            call()
        np.testing.assert_array_equal(room, before)
