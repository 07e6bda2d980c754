"""use_isa while other threads compute: every result has the bits of one instruction set."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import _pycnn
import numpy as np
import pytest
from test_threads_fork import in_fork

import pycnn
from pycnn import ops

RACE = Path(__file__).with_name("isa_race.py")


@pytest.mark.skipif(
    len(pycnn.available_isas()) < 2, reason="needs two instruction sets; this machine has one"
)
def test_use_isa_waits_for_operators_that_run(tmp_path):
    """In a process of its own, so that a crash is a failure and not the end of the suite."""
    path = [os.path.dirname(os.path.dirname(module)) for module in (pycnn.__file__,)]
    path.append(os.path.dirname(_pycnn.__file__))
    run = subprocess.run(
        [sys.executable, str(RACE)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"{run.returncode}: {run.stdout}{run.stderr}"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_forked_during_an_operator_may_choose_its_instruction_set(isa):
    """The thread that runs the operator does not exist in the child and lets nothing go there."""
    a = np.ones((700, 700), np.float32)
    expected, stop = ops.matmul(a, a), threading.Event()

    def busy():
        while not stop.is_set():
            ops.matmul(a, a)

    def choose():
        pycnn.use_isa(isa)
        return ops.matmul(a, a)

    other = threading.Thread(target=busy)
    other.start()
    try:
        for _ in range(8):
            np.testing.assert_array_equal(in_fork(choose), expected)
    finally:
        stop.set()
        other.join()


def test_a_wrong_instruction_set_lets_others_go_on():
    with pytest.raises(ValueError, match="none"):
        pycnn.use_isa("none")
    pycnn.use_isa(pycnn.isa())
    np.testing.assert_array_equal(ops.relu(np.float32([-1, 2])), [0, 2])
