"""What the figures were measured on: the CPU, its FMA peak, and who else uses it."""

from __future__ import annotations

import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

BUSY_SHARE = 0.05  # of all CPUs; a quiet machine shows less than 0.01


def cpu_name() -> str:
    """The CPU's name as /proc/cpuinfo gives it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def has_avx512() -> bool:
    """Whether the CPU has AVX-512 F."""
    return "avx512f" in _cpuinfo("flags").split()


def cpu_count() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0))


def describe() -> dict[str, Any]:
    """Name, family, model, CPUs, load average and busy share of this machine."""
    return {
        "cpu": cpu_name(),
        "family": _cpuinfo("cpu family"),
        "model": _cpuinfo("model"),
        "cpus": cpu_count(),
        "avx512": has_avx512(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": os.getloadavg(),
        "busy_share": busy_share(1.0),
    }


def busy_share(seconds: float) -> float:
    """Share of all CPUs that was not idle while this process slept for `seconds`; steal counts.

    The load average alone would not do: it still shows our own last minute.
    """
    before = _cpu_ticks()
    time.sleep(seconds)
    ticks = [b - a for a, b in zip(before, _cpu_ticks(), strict=True)]
    total = sum(ticks)
    idle = ticks[3] + ticks[4]  # idle, iowait
    return 1 - idle / total if total else 0.0


def busy_warning(seconds: float = 1.0) -> str | None:
    """A sentence when other processes use the machine, else None."""
    share = busy_share(seconds)
    if share <= BUSY_SHARE:
        return None
    return (
        f"WARNING: the machine is busy: {share:.0%} of its CPU time goes to other processes "
        f"(load average {os.getloadavg()[0]:.2f}). Figures of more than one thread mean little now."
    )


def fma_peak(threads: int, seconds: float = 0.1, repeats: int = 3) -> float:
    """Highest GFLOP/s of a loop of independent FMAs on `threads` threads, active ISA.

    One Python thread a core: the loop drops the GIL.
    """
    import _pycnn

    with ThreadPoolExecutor(threads) as pool:
        rounds = (sum(pool.map(_pycnn.fma_peak, [seconds] * threads)) for _ in range(repeats))
        return max(rounds)


def clock_ghz(seconds: float = 0.1) -> float | None:
    """The clock under FMAs of 256 bits: every CPU with AVX2 that we know starts two a cycle.

    None without AVX2. The active ISA is as before afterwards.
    """
    import _pycnn

    if "avx2" not in _pycnn.available_isas():
        return None
    chosen = _pycnn.isa()
    try:
        _pycnn.use_isa("avx2")
        return fma_peak(1, seconds) / 32  # 2 FMAs of 8 floats, 2 FLOP each
    finally:
        _pycnn.use_isa(chosen)


def copy_bandwidth(threads: int, megabytes: int = 64, repeats: int = 5) -> float:
    """Highest GB/s, read and written, of copies between arrays that no cache holds."""
    sources = [np.ones(megabytes << 18, np.float32) for _ in range(threads)]
    targets = [np.zeros_like(source) for source in sources]

    def copy(i: int) -> None:
        np.copyto(targets[i], sources[i])

    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(repeats):
            begin = time.perf_counter()
            list(pool.map(copy, range(threads)))
            moved = 2 * threads * sources[0].nbytes
            best = max(best, moved / (time.perf_counter() - begin) / 1e9)
    return best


def caches() -> dict[str, int]:
    """Bytes of the first CPU's data caches by level, as in {"L1": 32768}; empty if unknown."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        size = (folder / "size").read_text().strip()
        if (folder / "type").read_text().strip() != "Instruction" and size.endswith("K"):
            found["L" + (folder / "level").read_text().strip()] = int(size[:-1]) << 10
    return found


def _cpu_ticks() -> list[int]:
    # user nice system idle iowait irq softirq steal; the guest columns after them are part of user.
    first_line = Path("/proc/stat").read_text().splitlines()[0]
    return [int(field) for field in first_line.split()[1:9]]


def _cpuinfo(key: str) -> str:
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""
