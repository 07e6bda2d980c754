"""Fixtures: a generator seeded by the test's name, every instruction set, one to three threads."""

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
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(autouse=True)
def layers_without_rng(request):
    """Layers that are given no rng draw the same in any order of the tests, too."""
    pycnn.seed(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(params=pycnn.available_isas())
def isa(request):
    """The name of the instruction set that runs; each one of this machine in turn."""
    before = pycnn.isa()
    pycnn.use_isa(request.param)
    yield request.param
    pycnn.use_isa(before)


@pytest.fixture(params=[1, 2, 3], ids=["1_thread", "2_threads", "3_threads"])
def num_threads(request):
    with pycnn.num_threads(request.param):
        yield request.param


@pytest.fixture
def exact_precision():
    """F(2x2) at most: small integers stay exact."""
    before = pycnn.get_precision()
    pycnn.set_precision("exact")
    yield
    pycnn.set_precision(before)
