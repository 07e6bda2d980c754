"""Which values count as whole numbers, numbers and names."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

import pycnn
from pycnn._runtime import checks

WHOLE = [0, -3, 10**400, np.int8(3), np.uint64(2**64 - 1)]
REAL = [0.5, -math.inf, np.float32(0.5), np.float16(2)]
NEITHER = [
    True, np.True_, None, "1", 1j, np.complex64(1), [1], np.array(1), np.array([1, 2]), object(),
]  # fmt: skip


@pytest.mark.parametrize("value", WHOLE, ids=repr)
def test_whole_numbers_are_numbers(value):
    assert checks.is_whole(value)
    assert checks.is_number(value)
    assert checks.is_real(value)
    assert checks.is_finite(value)


@pytest.mark.parametrize("value", REAL, ids=repr)
def test_floats_are_numbers_but_no_whole_ones(value):
    assert not checks.is_whole(value)
    assert checks.is_number(value)
    assert checks.is_real(value)
    assert checks.is_finite(value) == math.isfinite(value)


@pytest.mark.parametrize("value", NEITHER, ids=repr)
def test_other_things_are_neither(value):
    for check in (checks.is_whole, checks.is_number, checks.is_real, checks.is_finite):
        assert check(value) is False


def test_both_ends_of_a_range_belong_to_it_and_nan_to_none():
    for check in (checks.is_whole, checks.is_real):
        assert [check(n, 1, 3) for n in range(5)] == [False, True, True, True, False]
        assert type(check(np.int64(1), 1, 3)) is bool
    assert checks.is_number(math.nan)
    assert not checks.is_real(math.nan)
    assert not checks.is_finite(np.float32("nan"))


def test_a_choice_is_one_of_the_names():
    assert checks.is_choice("a", ("a", "b"))
    for other in ("c", "", None, 1, [], np.array(["a", "b"]), {}):
        assert not checks.is_choice(other, {"a": 1, "b": 2})


def test_nobody_writes_these_checks_by_hand():
    """A bool that passes as 1 is the mistake that hand-written checks make."""
    package = Path(pycnn.__file__).parent
    later = {"datasets/lecture.py", "datasets/mnist.py", "layers/dropout.py"}
    later |= {"trainer/__init__.py", "trainer/data.py"}
    pattern = r"isinstance\(\w+, bool\) or not isinstance|\) and not isinstance\(\w+, bool\)"
    by_hand = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(pattern, path.read_text())
    }
    assert by_hand - {"_runtime/checks.py"} <= later
