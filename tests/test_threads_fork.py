"""Threads, forks, environment variables, denormals: pycnn as a guest in somebody's process."""

import concurrent.futures
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback

import _pycnn
import numpy as np
import pytest
import reference
import tolerance

import pycnn
from pycnn import ops

HANG_SECONDS = 60  # a safety net: a child that hangs is ended by its own alarm, and the test fails


def work(seed):
    """The results of a convolution's three directions, a product and a pool, on several threads."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((16, 14, 14, 32), np.float32)
    weight = rng.standard_normal((3, 3, 32, 64), np.float32)
    y = ops.conv2d(x, weight, padding="same")
    a, b = rng.standard_normal((2, 300, 300), np.float32)
    pooled, indices = ops.max_pool2d(y, 2, return_indices=True)
    return [
        y,
        ops.conv2d_backward_input(y, weight, x.shape, padding="same"),
        ops.conv2d_backward_weight(x, y, weight.shape, padding="same"),
        ops.matmul(a, b),
        pooled,
        ops.max_pool2d_backward(pooled, indices, y.shape),
        ops.softmax(a),
    ]


def assert_same(results, expected):
    for result, same in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, same)


def test_python_threads_may_call_at_once():
    """Scratch memory is not shared: each thread gets the numbers that it gets alone."""
    seeds = range(4)
    with pycnn.num_threads(2):
        alone = [work(seed) for seed in seeds]
        start = threading.Barrier(len(seeds))

        def repeat(seed):
            start.wait()
            return [work(seed) for _ in range(6)]

        with concurrent.futures.ThreadPoolExecutor(len(seeds)) as pool:
            together = list(pool.map(repeat, seeds))
    for rounds, expected in zip(together, alone, strict=True):
        for results in rounds:
            assert_same(results, expected)


def test_other_python_threads_run_during_an_operator():
    """The GIL is dropped: a counter in another thread goes on during one long product."""
    a = np.ones((1500, 1500), np.float32)
    inside, ticks, stop = threading.Event(), [], threading.Event()

    def count():
        while not stop.is_set():
            if inside.is_set():
                ticks.append(1)
            time.sleep(0)

    counter = threading.Thread(target=count)
    counter.start()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # without a dropped GIL the counter would not get a turn
    try:
        inside.set()
        ops.matmul(a, a)
        inside.clear()
    finally:
        sys.setswitchinterval(before)
        stop.set()
        counter.join()
    assert ticks


def in_fork(function):
    """function()'s result, computed in a child of os.fork; AssertionError if it fails or hangs."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(read_end)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(HANG_SECONDS)
            with os.fdopen(write_end, "wb") as pipe:
                pickle.dump(function(), pipe)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code != -signal.SIGALRM, "the child hung"
    assert code == 0, f"the child ended with {code}"
    return pickle.loads(data)


@pytest.mark.skipif(
    not _pycnn.has_openmp(), reason="built without OpenMP: every operator runs on one thread"
)
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_forked_child_computes_the_same_bits(isa, threads):
    """Python warns of forks with threads, which is what is tested: OpenMP's do not survive one."""
    with pycnn.num_threads(threads):
        _pycnn.last_team_size()
        here = work(7)
        assert _pycnn.last_team_size() == threads
        assert_same(in_fork(lambda: work(7)), here)
        assert in_fork(pycnn.get_num_threads) == 1
        assert in_fork(pycnn.isa) == isa
        assert_same(work(7), here)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_forked_while_another_thread_computes():
    """A lock that this thread holds at the fork is never released in the child."""
    expected, stop = work(3), threading.Event()

    def busy():
        while not stop.is_set():
            work(5)

    other = threading.Thread(target=busy)
    with pycnn.num_threads(2):
        other.start()
        try:
            for _ in range(8):
                assert_same(in_fork(lambda: work(3)), expected)
        finally:
            stop.set()
            other.join()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_forked_while_another_thread_compiles_and_first_runs_a_network():
    """A run after `set_precision` makes filters for another tile; no lock of that may be held."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 8, 8, 64), np.float32)
    layers = pycnn.layers
    model = layers.Sequential(
        layers.Conv2d(64, 256, 3, padding="same", rng=rng),
        layers.Conv2d(256, 64, 3, padding="same", rng=rng),
    )
    expected, stop = model.compile_inference(x.shape)(x), threading.Event()
    shared = [model.compile_inference(x.shape)]

    def busy():
        while not stop.is_set():
            shared[0] = model.compile_inference(x.shape)
            for precision in ("exact", "fast"):
                pycnn.set_precision(precision)
                shared[0](x)

    def answer():
        pycnn.set_precision("fast")
        return shared[0](x)

    other = threading.Thread(target=busy)
    with pycnn.num_threads(2):
        other.start()
        try:
            for _ in range(12):
                np.testing.assert_array_equal(in_fork(answer), expected)
        finally:
            stop.set()
            other.join()
            pycnn.set_precision("fast")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_childs_child_computes_too():
    expected = work(3)
    assert_same(in_fork(lambda: in_fork(lambda: work(3))), expected)


def python(code, tmp_path, **environment):
    """Run a program with these variables, and without the others that pycnn reads."""
    names = ("PYCNN_ISA", "PYCNN_NUM_THREADS", "OMP_NUM_THREADS")
    inherited = {key: value for key, value in os.environ.items() if key not in names}
    # The same pycnn as here, wherever it was found: the checkout or an installed wheel.
    path = os.path.dirname(os.path.dirname(pycnn.__file__))
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r}); {code}"],
        env={**inherited, **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({"PYCNN_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "5,2"}, 5),
        ({"PYCNN_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3),
        ({"PYCNN_NUM_THREADS": "1"}, 1),
    ],
    ids=str,
)
def test_the_environment_sets_the_threads(tmp_path, environment, threads):
    code = "import pycnn; print(pycnn.get_num_threads()); pycnn.set_num_threads(4); "
    run = python(code + "print(pycnn.get_num_threads())", tmp_path, **environment)
    assert run.stdout.split() == [str(threads), "4"], run.stderr


def test_the_default_respects_affinity(tmp_path):
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    run = python(code + "import pycnn; print(pycnn.get_num_threads())", tmp_path)
    assert run.stdout.split() == ["1"], run.stderr
    run = python("import pycnn; print(pycnn.get_num_threads())", tmp_path)
    assert 1 <= int(run.stdout) <= len(os.sched_getaffinity(0)), run.stderr


def last_line(text):
    return text.strip().splitlines()[-1]


@pytest.mark.parametrize("value", ["0", "-2", "two", "1.5", "99999999999"])
def test_a_wrong_number_of_threads_in_the_environment_is_a_sentence(tmp_path, value):
    run = python("import pycnn", tmp_path, PYCNN_NUM_THREADS=value)
    assert run.returncode == 1
    assert "PYCNN_NUM_THREADS" in last_line(run.stderr)
    assert value in last_line(run.stderr)
    assert "expected" in last_line(run.stderr)


@pytest.mark.parametrize("name", pycnn.available_isas())
def test_the_environment_sets_the_instruction_set(tmp_path, name):
    run = python("import pycnn; print(pycnn.isa())", tmp_path, PYCNN_ISA=name)
    assert run.stdout.split() == [name], run.stderr


def test_the_best_instruction_set_is_the_default(tmp_path):
    run = python("import pycnn; print(pycnn.isa())", tmp_path)
    assert run.stdout.split() == [pycnn.available_isas()[-1]], run.stderr


def test_an_unknown_instruction_set_is_a_sentence_that_lists_the_known(tmp_path):
    run = python("import pycnn", tmp_path, PYCNN_ISA="avx1024")
    assert run.returncode == 1
    with pytest.raises(ValueError, match="avx1024") as caught:
        pycnn.use_isa("avx1024")
    for message in (run.stderr, str(caught.value)):
        assert "avx1024" in message
        for name in pycnn.available_isas():
            assert name in message
    assert "PYCNN_ISA" in run.stderr


@pytest.mark.skipif(
    {"avx512", "neon"} & set(pycnn.available_isas()) != set(),
    reason="needs an instruction set that was compiled but that this CPU lacks; it has the best",
)
def test_more_than_the_cpu_has_is_refused():
    before = pycnn.isa()
    with pytest.raises(ValueError, match=r"avx512.*this CPU.*avx2|avx512.*this CPU.*baseline"):
        pycnn.use_isa("avx512")
    assert pycnn.isa() == before


def test_num_threads_is_restored():
    before = pycnn.get_num_threads()
    with pycnn.num_threads(before + 1):
        assert pycnn.get_num_threads() == before + 1
        with pycnn.num_threads(1):
            assert pycnn.get_num_threads() == 1
        assert pycnn.get_num_threads() == before + 1
    assert pycnn.get_num_threads() == before


def test_num_threads_is_restored_after_an_exception():
    before = pycnn.get_num_threads()
    with pytest.raises(KeyError, match="mine"), pycnn.num_threads(before + 2):
        raise KeyError("mine")
    assert pycnn.get_num_threads() == before


@pytest.mark.parametrize("value", [0, -1, 10**9])
def test_a_wrong_number_of_threads_is_a_sentence(value):
    before = pycnn.get_num_threads()
    with pytest.raises(ValueError, match=rf"{value}.*expected"):
        pycnn.set_num_threads(value)
    with pytest.raises(ValueError, match=rf"{value}.*expected"), pycnn.num_threads(value):
        pass
    for wrong in (1.5, "2", None):
        with pytest.raises(TypeError, match="expected"):
            pycnn.set_num_threads(wrong)
    assert pycnn.get_num_threads() == before


def test_the_configuration_heads_a_bug_report():
    text = pycnn.show_config()
    for part in (pycnn.__version__, pycnn.isa(), *pycnn.available_isas(), np.__version__):
        assert part in text
    assert f"threads: {pycnn.get_num_threads()}" in text


def test_subnormal_numbers_survive(isa, num_threads):
    """No flag that flushes them to zero is set: in this thread, nor in those that compute."""
    small = np.float32(2.0**-140)
    x = np.full(1_000_000, small)
    np.testing.assert_array_equal(ops.relu(x), x)
    a = np.full((400, 300), small)
    np.testing.assert_array_equal(
        ops.matmul(a, np.eye(300, dtype=np.float32) * 2), np.full((400, 300), 2 * small)
    )
    assert np.finfo(np.float32).smallest_subnormal != 0
    assert x[0] * np.float32(0.5) == np.float32(2.0**-141)
    assert np.float32(2.0**-100) * np.float32(2.0**-40) == small


def test_subnormal_numbers_survive_the_import(tmp_path):
    code = "import numpy as np; import pycnn; x = np.float32(2.0**-140) * np.float32(0.5); "
    run = python(
        code + "print(x == np.float32(2.0**-141), np.finfo('f4').smallest_subnormal > 0)", tmp_path
    )
    assert run.stdout.split() == ["True", "True"], run.stderr


def test_work_is_right_not_only_the_same():
    """The numbers that the tests above compare with each other, once against the reference."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal((16, 14, 14, 32), np.float32)
    weight = rng.standard_normal((3, 3, 32, 64), np.float32)
    exact = reference.conv2d(x, weight, padding="same")
    tolerance.assert_within(work(7)[0], exact, tolerance.conv2d(x, weight, padding="same"))
