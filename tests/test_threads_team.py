"""The team of threads: one size, whatever a region needs, and no thread that comes and goes."""

import os
import subprocess
import sys

import _pycnn
import pytest

import pycnn

pytestmark = pytest.mark.skipif(
    not _pycnn.has_openmp(), reason="built without OpenMP: every operator runs on one thread"
)

# A range of relu pays from 2.5 MB on, 8 bytes a number (csrc/ops/runtime/parallel.h).
PROGRAM = """
import os
import numpy as np
import _pycnn, pycnn
from pycnn import ops

def threads():
    return set(os.listdir("/proc/self/task"))

def region(ranges):
    x = np.arange(-5, 330_000 * ranges - 5, dtype=np.float32)
    _pycnn.last_team_size()
    assert (ops.relu(x) == np.maximum(x, 0)).all()
    return _pycnn.last_team_size()

_pycnn.set_yielding(False)  # or a busy machine makes the caller work alone
"""


def lines_of(code):
    path = os.path.dirname(os.path.dirname(pycnn.__file__))
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r})\n" + PROGRAM + code],
        env={**os.environ, "PYCNN_NUM_THREADS": "4"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_regions_of_every_size_keep_the_same_threads():
    """libgomp ends threads and starts others where a region has another size than the last."""
    code = (
        "first = region(4)\n"
        "before = threads()\n"
        "sizes = [region(ranges) for ranges in (2, 4, 3, 1, 2, 4)]\n"
        "print(first, sizes)\n"
        "print(before == threads())\n"
    )
    assert lines_of(code) == ["4 [2, 4, 3, 1, 2, 4]", "True"]


def test_the_number_of_threads_may_shrink_and_grow():
    code = (
        "for n in (4, 2, 3, 1, 4, 16, 2):\n"
        "    pycnn.set_num_threads(n)\n"
        "    print(n, region(n), region(2))\n"
    )
    found = [tuple(map(int, line.split())) for line in lines_of(code)]
    assert found == [(n, n, min(n, 2)) for n in (4, 2, 3, 1, 4, 16, 2)]
