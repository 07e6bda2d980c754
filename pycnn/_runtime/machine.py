"""Threads and instruction sets: process-wide settings, and the first lines of a bug report."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from typing import Any

import _pycnn
import numpy as np

from pycnn._runtime import waiting
from pycnn._runtime.checks import is_whole

MAX_THREADS = 4096
_chosen = False  # whether somebody has set the threads
_ranks_here = 1  # MPI processes that share this machine's cores
_who_decides = "user"  # how threads wait (Note [Waiting] in waiting.py)


def remember_who_decides(who: str) -> None:
    """Set once, at import; unless the user decides, a late team makes its caller yield."""
    global _who_decides
    _who_decides = who
    _pycnn.set_yielding(who != "user")


def share_with(ranks: int, cores: int) -> None:
    """So many ranks of this machine share so many cores, unless somebody has set the threads."""
    global _ranks_here
    _ranks_here = ranks
    by_variable = os.environ.get("PYCNN_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS")
    if not (_chosen or by_variable):
        _pycnn.set_num_threads(min(_pycnn.available_cpus(), max(1, cores // ranks)))


def _check_threads(n: Any, who: str) -> int:
    if not is_whole(n):
        raise TypeError(f"{who}: n is {n!r}; expected a whole number of threads, 1 or more.")
    if not 1 <= n <= MAX_THREADS:
        raise ValueError(f"{who}: n is {n}; expected 1 to {MAX_THREADS} threads.")
    return int(n)


def _check_environment() -> None:
    """A PYCNN_NUM_THREADS that is no number is refused at import, not ignored."""
    text = os.environ.get("PYCNN_NUM_THREADS", "")
    if text and not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_THREADS):
        raise ImportError(
            f"PYCNN_NUM_THREADS is {text!r}; expected a whole number of threads from 1 to "
            f"{MAX_THREADS}, or no such variable."
        )


def get_num_threads() -> int:
    """Threads that an operator may use: the last `set_num_threads`, or the default.

    The default is PYCNN_NUM_THREADS, else the first number of OMP_NUM_THREADS, else the CPUs of
    this process: the smaller of the physical cores in its affinity mask and its cgroup's CPU quota
    (rounded up). A child of `os.fork` has 1: OpenMP's threads do not survive a fork.
    """
    return _pycnn.get_num_threads()


def set_num_threads(n: int) -> None:
    """Use at most n threads in every operator of this process, from 1 to 4096.

    Small operators use fewer. Results have the same bits whatever n is. Without effect in a child
    of `os.fork`. Raises TypeError or ValueError if n is not such a number.
    """
    global _chosen
    _pycnn.set_num_threads(_check_threads(n, "set_num_threads"))
    _chosen = True


@contextlib.contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Use at most n threads inside a `with` block, process-wide; restored at its end."""
    global _chosen
    count = _check_threads(n, "num_threads")
    before = _pycnn.get_num_threads(), _chosen
    _pycnn.set_num_threads(count)
    _chosen = True
    try:
        yield
    finally:
        _pycnn.set_num_threads(before[0])
        _chosen = before[1]


def isa() -> str:
    """The instruction set whose kernels run: "baseline", "avx2", "avx512" or "neon"."""
    return _pycnn.isa()


def available_isas() -> list[str]:
    """The instruction sets that were compiled and that this CPU has, lowest first."""
    return _pycnn.available_isas()


def use_isa(name: str) -> None:
    """Run the kernels of another instruction set from now on, process-wide.

    The environment variable PYCNN_ISA does the same at import. avx2, avx512 and neon give the same
    bits; baseline has no fused multiply-add and rounds more often. Waits for operators that run in
    other threads: each is computed by one instruction set from beginning to end. Raises ValueError,
    with the list of what this machine can run, if it lacks `name`.
    """
    if not isinstance(name, str):
        raise TypeError(f"use_isa: name is {name!r}; expected one of {available_isas()}.")
    _pycnn.use_isa(name)


def build() -> dict[str, str]:
    """What tells one pycnn from another."""
    return {"pycnn": _pycnn.__version__, "sources": _pycnn.source_hash}


def available_cpus() -> int:
    """The CPUs of this process, as in `get_num_threads`."""
    return _pycnn.available_cpus()


def trim() -> None:
    """Give back the memory that operators and compiled models keep for their next call.

    A thread keeps at most 38 MB of scratch memory and 38 MB for the maps of a compiled model, so
    that a loop over small calls asks the system for none. This gives back what this thread and
    pycnn's own threads keep. Weights, plans and arrays stay; the next call is slower.
    """
    _pycnn.trim()


def fma_peak(seconds: float = 0.05, repeats: int = 3) -> float:
    """The highest GFLOP/s of independent fused multiply-adds on as many threads as are set.

    The active instruction set's vectors, one Python thread a core: the loop drops the GIL. The best
    of `repeats` rounds of `seconds`.
    """
    from concurrent.futures import ThreadPoolExecutor

    threads = get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        rounds = (sum(pool.map(_pycnn.fma_peak, [seconds] * threads)) for _ in range(repeats))
        return max(rounds)


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def show_config() -> str:
    """A few lines on version, compiler, CPU, instruction sets and threads, to head a bug report."""
    openmp = "OpenMP" if _pycnn.has_openmp() else "no OpenMP: one thread"
    variables = " ".join(
        f"{name}={os.environ[name]}"
        for name in ("PYCNN_ISA", "PYCNN_NUM_THREADS", "OMP_NUM_THREADS", *waiting.VARIABLES)
        if name in os.environ
    )
    l2, l3 = _pycnn.caches()
    shared = f" in each of {_ranks_here} ranks of this machine" if _ranks_here > 1 else ""
    lines = [
        f"pycnn {_pycnn.__version__}, _pycnn at {_pycnn.__file__}",
        f"compiler: {_pycnn.compiler}, {openmp}",
        f"python {platform.python_version()}, numpy {np.__version__}, {platform.platform()}",
        f"cpu: {_cpu_name()}, {_pycnn.available_cpus()} for this process",
        f"caches: L2 {l2 // 1024} KB of a core, L3 {l3 // 1024} KB",
        f"isa: {isa()} of {', '.join(available_isas())}",
        f"threads: {get_num_threads()}{shared}",
        f"waiting: {waiting.EXPLANATIONS[_who_decides]}",
        f"environment: {variables or 'none of ours set'}",
    ]
    if _pycnn.in_forked_child():
        lines.append("this process is a fork's child: every operator runs on one thread")
    return "\n".join(lines)


_check_environment()
