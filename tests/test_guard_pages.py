"""No operator touches memory outside its arrays: `guarded.py`, in a process that may die."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pycnn

SCRIPT = Path(__file__).with_name("guarded.py")


@pytest.mark.skipif(os.name != "posix", reason="mprotect is POSIX's")
@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512", "neon"])
def test_no_operator_reads_or_writes_outside_its_arrays(isa):
    if isa not in pycnn.available_isas():
        pytest.skip(f"this CPU has no {isa}")
    root = str(SCRIPT.parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), isa],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYCNN_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stdout.splitlines()[-1:] or ["before the first case"]
    assert done.returncode == 0, f"{isa}, {last[0]}: exit {done.returncode}\n{done.stderr}"
    assert last == ["done"]
