"""Memory that runs out inside an operator: a MemoryError, and the process goes on."""

import os
import subprocess
import sys

import _pycnn
import pytest

import pycnn

# The scratch of `direct` for padded rows is the only large one, and threads ask for it: 10 MB each.
PROGRAM = """
import resource
import numpy as np
import pycnn
from pycnn import ops

pycnn.set_num_threads(2)
x, weight = np.ones((1, 8, 200_000, 3), np.float32), np.ones((3, 3, 3, 16), np.float32)
small = np.ones((1, 8, 4_000, 3), np.float32)
y = np.zeros((*x.shape[:3], 16), np.float32)
how = {"padding": "same", "algorithm": "direct"}
expected = ops.conv2d(small, weight, **how)  # now there are two threads, with stacks and heaps
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
_, most = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), most))
try:
    ops.conv2d(x, weight, out=y, **how)
    print("no exception")
except MemoryError:
    print("MemoryError")
resource.setrlimit(resource.RLIMIT_AS, (most, most))
assert (ops.conv2d(small, weight, **how) == expected).all()
print((ops.conv2d(x, weight, out=y, **how) > 0).all())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
def test_memory_that_runs_out_in_a_thread_is_a_memory_error(tmp_path):
    """An exception that left a parallel region would end the process."""
    path = [os.path.dirname(os.path.dirname(pycnn.__file__)), os.path.dirname(_pycnn.__file__)]
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["MemoryError", "True"]
