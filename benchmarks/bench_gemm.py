"""GEMM: its share of the FMA peak, and 216 shapes beside NumPy's matmul.

NumPy's OpenBLAS picks its kernels ("core type") when it is loaded, and on some CPUs not its fastest
ones. So each core type has a process of its own, `python -m benchmarks.bench_gemm`, in which pycnn
and NumPy take turns.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from functools import partial
from typing import Any

import numpy as np

from . import machine
from .peers.contest import DROPPED_VARIABLES, PAUSE_S, ROOT
from .timing import Case, geometric_mean, interleave, table

SQUARES = (512, 2000)
SIZES = (1, 10, 64, 100, 512, 2048)
SHOWN = 10  # shapes in the table: the ones where pycnn does worst


def run(*, threads: list[int], repeats: int) -> dict[str, Any]:
    """Measure, print, return what goes to the JSON file."""
    report: dict[str, Any] = {"squares": _squares(repeats), "against_numpy": []}
    # OpenBLAS's own choice, then each that the CPU can run: with AVX-512 it is SKYLAKEX that wins
    # where 512-bit FMAs are twice as fast (Zen 5), and HASWELL where they are not (Zen 4).
    core_types = (None, "HASWELL", *(["SKYLAKEX"] if machine.has_avx512() else []))
    for count, core_type in itertools.product(threads, core_types):
        result = _in_subprocess(count, core_type, repeats)
        report["against_numpy"].append(result)
        _print_against_numpy(result)
    for count in threads:
        means = [r["geometric_mean_min"] for r in report["against_numpy"] if r["threads"] == count]
        print(f"GEMM, {count} thread(s), NumPy's best core type: NumPy / pycnn {min(means):.3f}")
    return report


def _squares(repeats: int) -> list[dict[str, Any]]:
    import pycnn
    from pycnn import ops

    chosen, rows, cases = pycnn.isa(), [], []
    peaks: dict[str, float] = {}
    rng = np.random.default_rng(0)
    try:
        with pycnn.num_threads(1):
            for isa, n in itertools.product(pycnn.available_isas(), SQUARES):
                a, b = (rng.standard_normal((n, n), dtype=np.float32) for _ in range(2))
                call = partial(ops.matmul, a, b, out=np.empty_like(a))
                setup = partial(pycnn.use_isa, isa)
                cases.append(Case(isa, call, setup, flop=2.0 * n**3, moved_bytes=3.0 * a.nbytes))
                setup()
                peaks[isa] = max(peaks.get(isa, 0.0), machine.fma_peak(1))
            interleave(cases, repeats, samples=2)
            for isa in peaks:
                pycnn.use_isa(isa)
                peaks[isa] = max(peaks[isa], machine.fma_peak(1))
    finally:
        pycnn.use_isa(chosen)
    for case, n in zip(cases, itertools.cycle(SQUARES)):
        best, middle = (case.flop / t / 1e9 for t in (case.minimum, case.median))
        rows.append(
            {
                "isa": case.name,
                "n": n,
                "gflops": best,
                "gflops_median": middle,
                "share_of_peak": best / peaks[case.name],
                "median_share_of_peak": middle / peaks[case.name],
            }
        )
    print("\nGEMM, square, 1 thread")
    cells = [
        [
            f"{r['isa']} {r['n']}^3",
            f"{r['gflops']:.1f}",
            f"{r['share_of_peak']:.1%}",
            f"{r['median_share_of_peak']:.1%}",
        ]
        for r in rows
    ]
    print(table(("shape", "GFLOP/s", "% of peak", "median %"), cells))
    return rows


def _in_subprocess(threads: int, core_type: str | None, repeats: int) -> dict[str, Any]:
    environment = {k: v for k, v in os.environ.items() if k not in DROPPED_VARIABLES}
    environment["OPENBLAS_NUM_THREADS"] = str(threads)
    if core_type:
        environment["OPENBLAS_CORETYPE"] = core_type
    command = [sys.executable, "-m", "benchmarks.bench_gemm"]
    command += ["--threads", str(threads), "--repeats", str(repeats)]
    run = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    result = json.loads(run.stdout)
    return {"requested_core_type": core_type or "default", **result}


def _print_against_numpy(result: dict[str, Any]) -> None:
    print(
        f"\nGEMM beside NumPy {result['numpy']}, {result['threads']} thread(s), "
        f"{len(result['shapes'])} shapes, OpenBLAS core type {result['requested_core_type']} "
        f"(in use: {result['core_type']})"
    )
    print(
        f"NumPy / pycnn, geometric mean: {result['geometric_mean_min']:.3f} of minima, "
        f"{result['geometric_mean_median']:.3f} of medians (above 1: pycnn is faster). "
        f"The worst {SHOWN}:"
    )
    worst = sorted(result["shapes"], key=lambda row: row["ratio_min"])[:SHOWN]
    cells = [
        [
            "{m} x {n} x {k}".format(**row),
            f"{row['numpy_min_s'] * 1e6:.2f}",
            f"{row['pycnn_min_s'] * 1e6:.2f}",
            f"{row['ratio_min']:.2f}",
            f"{row['ratio_median']:.2f}",
        ]
        for row in worst
    ]
    print(table(("m x n x k", "NumPy us", "pycnn us", "ratio", "median ratio"), cells))


def compare(threads: int, repeats: int) -> dict[str, Any]:
    """All shapes on both sides, in this process and with the BLAS that it has loaded."""
    import pycnn

    pycnn.set_num_threads(threads)
    shapes = list(itertools.product(SIZES, repeat=3))
    pairs = [_pair(m, n, k) for m, n, k in shapes]
    by_rows = [pairs[i : i + len(SIZES) ** 2] for i in range(0, len(pairs), len(SIZES) ** 2)]
    for _ in range(repeats):
        for group in by_rows:
            # Two thread pools live here; each sleeps before the other side runs.
            for side in (0, 1):
                time.sleep(PAUSE_S / 2 if threads > 1 else 0)
                interleave([pair[side] for pair in group], 1, sample_seconds=0.001, samples=2)
    rows = [_row(*shape, *pair) for shape, pair in zip(shapes, pairs, strict=True)]
    return {
        "numpy": np.__version__,
        "threads": threads,
        "core_type": _core_type(),
        "geometric_mean_min": geometric_mean([row["ratio_min"] for row in rows]),
        "geometric_mean_median": geometric_mean([row["ratio_median"] for row in rows]),
        "shapes": rows,
    }


def _pair(m: int, n: int, k: int) -> tuple[Case, Case]:
    from pycnn import ops

    rng = np.random.default_rng(0)
    a = rng.standard_normal((m, k), dtype=np.float32)
    b = rng.standard_normal((k, n), dtype=np.float32)
    ours, theirs = np.empty((m, n), np.float32), np.empty((m, n), np.float32)
    pycnn_call = partial(ops.matmul, a, b, out=ours)
    numpy_call = partial(np.matmul, a, b, out=theirs)
    pycnn_call()
    numpy_call()
    # Each side's rounding error is about k * 2**-24 * (|a| @ |b|) at most, in any order of sums.
    bound = 2 * (k + 1) * 2.0**-24 * (np.abs(a) @ np.abs(b))
    if not (np.abs(ours - theirs) <= bound).all():
        raise RuntimeError(f"pycnn and NumPy disagree on the {m} x {n} x {k} product")
    return Case("pycnn", pycnn_call), Case("NumPy", numpy_call)


def _row(m: int, n: int, k: int, ours: Case, theirs: Case) -> dict[str, Any]:
    return {
        "m": m,
        "n": n,
        "k": k,
        "numpy_min_s": theirs.minimum,
        "numpy_median_s": theirs.median,
        "pycnn_min_s": ours.minimum,
        "pycnn_median_s": ours.median,
        "ratio_min": theirs.minimum / ours.minimum,
        "ratio_median": theirs.median / ours.median,
    }


def _core_type() -> str:
    try:
        import threadpoolctl
    except ImportError:
        return "unknown without threadpoolctl"
    pools = [p for p in threadpoolctl.threadpool_info() if p["internal_api"] == "openblas"]
    return ", ".join(str(pool["architecture"]) for pool in pools) or "NumPy has no OpenBLAS"


def _main() -> None:
    parser = argparse.ArgumentParser(description="All GEMM shapes beside NumPy; JSON on stdout.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(json.dumps(compare(arguments.threads, arguments.repeats)))


if __name__ == "__main__":
    _main()
