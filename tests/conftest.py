"""Fixtures: a generator seeded by the test's name, every instruction set, one to three threads."""

import inspect
import zlib

import _pycnn
import numpy as np
import plan_check
import pytest
from hypothesis import HealthCheck, settings

import pycnn
from pycnn.graph.plan import Plan

pytest.register_assert_rewrite("op_table", "tolerance")

# Other examples in every run, in CI too. What fails is printed with @reproduce_failure, and none is
# kept in a file; pytest --hypothesis-seed=N repeats a run.
settings.register_profile(
    "explore",
    database=None,
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("explore")


def pytest_report_header(config):
    isas = pycnn.available_isas()
    missing = [name for name in ("baseline", "avx2", "avx512", "neon") if name not in isas]
    return [
        *pycnn.show_config().splitlines(),
        f"instruction sets that will run: {', '.join(isas)}; not on this CPU: {', '.join(missing)}",
    ]


@pytest.fixture(autouse=True, scope="session")
def as_many_threads_as_asked_for():
    """A region takes the threads that its grain says, not fewer because the last ones were late."""
    _pycnn.set_yielding(False)


@pytest.fixture(autouse=True, scope="session")
def every_plan_keeps_what_is_read():
    """Each plan that any test makes is played through (`plan_check`)."""
    made = Plan.__init__

    def checked(self, *arguments, **keywords):
        made(self, *arguments, **keywords)
        plan_check.check(self)

    Plan.__init__ = checked
    yield
    Plan.__init__ = made


@pytest.fixture
def rng(request):
    """A generator of its own for every test: the same numbers in any order of the tests."""
    return generator_of(request.node)


@pytest.fixture(autouse=True)
def layers_without_rng(request):
    """Layers that are given no rng draw the same in any order of the tests, too."""
    pycnn.seed(zlib.crc32(request.node.nodeid.encode()))


def generator_of(item):
    return np.random.default_rng(zlib.crc32(item.nodeid.encode()))


@pytest.fixture
def isa():
    """The name of the instruction set that runs: within the test, each one of this machine."""
    before = pycnn.isa()
    yield before
    pycnn.use_isa(before)


@pytest.fixture
def small_caches():
    """Caches of 256 KB and 1 MB: from 2**17 numbers on a result is stored past them."""
    before = _pycnn.caches()
    _pycnn.set_caches(2**18, 2**20)
    yield
    _pycnn.set_caches(*before)


@pytest.fixture
def num_threads():
    """The number of threads that run: in turn 1 and 3, and 2 on the last instruction set."""
    with pycnn.num_threads(1):
        yield 1


def turns_of(item):
    """The (instruction set, threads) that a test asks for with its fixtures; None: as it is."""
    given = getattr(getattr(item, "callspec", None), "params", {})
    asked = set(item.fixturenames) - set(given)
    isas = pycnn.available_isas() if "isa" in asked else [None]
    if "num_threads" not in asked:
        return [(isa, None) for isa in isas]
    return [(isa, threads) for isa in isas for threads in (1, 3)] + [(isas[-1], 2)]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run a test with `isa` or `num_threads` once in each turn, with the same numbers of `rng`.

    One case instead of up to a dozen: what it made for its module's caches serves all turns. The
    report of a failure names the turn.
    """
    turns = turns_of(pyfuncitem)
    if turns == [(None, None)]:
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    for isa, threads in turns:
        if isa is not None:
            pycnn.use_isa(isa)
            arguments.update({"isa": isa} if "isa" in names else {})
        if threads is not None:
            pycnn.set_num_threads(threads)
            arguments.update({"num_threads": threads} if "num_threads" in names else {})
        if "rng" in names:
            arguments["rng"] = generator_of(pyfuncitem)
        try:
            pyfuncitem.obj(**arguments)
        except BaseException:
            on = [isa] if isa else []
            on += [f"threads: {threads}"] if threads else []
            pyfuncitem.add_report_section("call", "turn", ", ".join(on))
            raise
    return True


@pytest.fixture
def exact_precision():
    """F(2x2) at most: small integers stay exact."""
    before = pycnn.get_precision()
    pycnn.set_precision("exact")
    yield
    pycnn.set_precision(before)
