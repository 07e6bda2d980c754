"""How threads wait: the environment, another library's libgomp, yielding; and which CPUs count."""

import os
import subprocess
import sys

import _pycnn
import numpy as np
import pytest

import pycnn
from pycnn import ops
from pycnn._runtime import waiting

# Reads the environment of the process itself, which os.environ may only seem to have restored.
ENVIRONMENT = (
    "import ctypes, os, subprocess, sys; get = ctypes.CDLL(None).getenv; "
    "get.restype = ctypes.c_char_p; "
    "seen = lambda: (os.environ.get('GOMP_SPINCOUNT'), get(b'GOMP_SPINCOUNT'), "
    "subprocess.check_output(['env'])); "
)
# What libgomp read when it was loaded.
SPIN = "import ctypes; ctypes.CDLL('libgomp.so.1').omp_display_env(1)"


def python(code, tmp_path, **environment):
    """Run a program with these variables, and without the others that decide how threads wait."""
    inherited = {k: v for k, v in os.environ.items() if k not in waiting.VARIABLES}
    path = os.path.dirname(os.path.dirname(pycnn.__file__))
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r}); {code}"],
        env={**inherited, **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run


@pytest.mark.parametrize("value", [None, "", "77"], ids=["absent", "empty", "set"])
def test_the_environment_is_as_it_was_after_the_import(tmp_path, value):
    environment = {} if value is None else {"GOMP_SPINCOUNT": value}
    code = ENVIRONMENT + "before = seen(); import pycnn; print(before == seen(), before[0])"
    assert python(code, tmp_path, **environment).stdout == f"True {value}\n"


@pytest.mark.parametrize(
    ("environment", "count"),
    [({}, "20000"), ({"GOMP_SPINCOUNT": "77"}, "77"), ({"OMP_WAIT_POLICY": "passive"}, "0")],
    ids=["pycnn", "spin_count_of_the_user", "policy_of_the_user"],
)
def test_libgomp_reads_our_spin_unless_the_user_set_one(tmp_path, environment, count):
    run = python(f"import pycnn; {SPIN}; print(pycnn.show_config())", tmp_path, **environment)
    assert f"GOMP_SPINCOUNT = '{count}'" in run.stderr
    who = "user" if environment else "pycnn"
    assert f"waiting: {waiting.EXPLANATIONS[who]}" in run.stdout


def test_a_libgomp_that_was_there_first_is_told_and_yielded_to(tmp_path):
    code = "import ctypes; ctypes.CDLL('libgomp.so.1'); import pycnn, _pycnn; "
    run = python(code + "print(_pycnn.yielding()); print(pycnn.show_config())", tmp_path)
    assert run.stdout.startswith("True\n")
    assert f"waiting: {waiting.EXPLANATIONS['other']}" in run.stdout


def test_yielding_is_off_where_the_user_decides_how_threads_wait(tmp_path):
    code = "import pycnn, _pycnn; print(_pycnn.yielding())"
    assert python(code, tmp_path).stdout == "True\n"
    assert python(code, tmp_path, OMP_WAIT_POLICY="passive").stdout == "False\n"


def test_a_failed_import_restores_the_environment(tmp_path):
    code = ENVIRONMENT + (
        "before = seen(); sys.modules['_pycnn'] = None\n"
        "try:\n    import pycnn\nexcept ImportError:\n    print(before == seen())"
    )
    assert python(code, tmp_path).stdout == "True\n"


def test_yielding_changes_no_bits():
    """More threads than CPUs, so that many regions are late and many run on one thread."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 400, 400), np.float32)
    with pycnn.num_threads(1):
        expected = ops.matmul(a, b)
    before = _pycnn.yielding()
    _pycnn.set_yielding(True)
    try:
        with pycnn.num_threads(8):
            for _ in range(50):
                np.testing.assert_array_equal(ops.matmul(a, b), expected)
    finally:
        _pycnn.set_yielding(before)


def siblings(folder, lists):
    for cpu, text in lists.items():
        topology = folder / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(text + "\n")
    return _pycnn.physical_cores(str(folder))


def test_hardware_threads_of_a_core_count_once(tmp_path):
    cpus = sorted(os.sched_getaffinity(0))
    pairs = {cpu: f"{i // 2},{i // 2 + 64}" for i, cpu in enumerate(cpus)}
    assert siblings(tmp_path / "pairs", pairs) == (len(cpus) + 1) // 2
    assert siblings(tmp_path / "alone", {cpu: str(cpu) for cpu in cpus}) == len(cpus)


def test_without_a_topology_every_cpu_is_a_core(tmp_path):
    assert _pycnn.physical_cores(str(tmp_path)) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("room", [0, 1, 64, 100_000])
def test_the_mask_of_cpus_grows_until_the_kernel_takes_it(tmp_path, room):
    """A mask that is too short is refused, as that for 1,024 CPUs is on larger machines."""
    assert _pycnn.physical_cores(str(tmp_path), room) == len(os.sched_getaffinity(0))


def test_cpus_outside_the_affinity_do_not_count(tmp_path):
    (allowed, *_) = os.sched_getaffinity(0)
    code = f"import os; os.sched_setaffinity(0, {{{allowed}}}); import _pycnn; "
    run = python(code + "print(_pycnn.physical_cores('/sys/devices/system/cpu'))", tmp_path)
    assert run.stdout == "1\n"


@pytest.mark.skipif(not _pycnn.has_openmp(), reason="built without OpenMP: one thread runs all")
def test_threads_that_are_awake_take_smaller_regions(tmp_path):
    """A product below the grain: alone at first, on two threads after a large one, alone again."""
    code = (
        "import time, numpy as np, pycnn, _pycnn\n"
        "pycnn.set_num_threads(2)\n"
        "small, large = (np.ones((n, n), np.float32) for n in (128, 400))\n"
        "def team(a, after=None):\n"
        "    if after is not None: pycnn.ops.matmul(after, after)\n"
        "    _pycnn.last_team_size(); pycnn.ops.matmul(a, a); return _pycnn.last_team_size()\n"
        "alone, woken = team(small), {team(small, large) for _ in range(20)}\n"
        "time.sleep(0.01)\n"
        "print(alone, 2 in woken, team(small))\n"
        "start, teams = time.perf_counter(), set()\n"
        "while time.perf_counter() - start < 1: teams.add(team(small))\n"
        "print(2 in teams)"
    )
    said = [python(code, tmp_path).stdout]
    while said[-1] != "1 True 1\nTrue\n" and len(said) < 5:  # a busy machine keeps threads asleep
        said.append(python(code, tmp_path).stdout)
    assert said[-1] == "1 True 1\nTrue\n", said
