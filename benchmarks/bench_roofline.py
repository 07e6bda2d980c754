"""The training step of the lecture's network, operator by operator, beside the roofline."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import pycnn

from . import machine, plots
from .bench_training import training_batches
from .peers import network, peer_pycnn
from .recorder import Operator, Recorder, recording
from .timing import table

WARM_UP_STEPS = 20  # the share of zeros in the gradients settles


def run(
    *, threads: list[int], batch: int, rounds: int, calls: int, plot: Path | None
) -> dict[str, Any]:
    """Measure, print, plot, return what goes to the JSON file."""
    images, labels, source = training_batches(batch)
    before = pycnn.get_num_threads()
    try:
        parameters = network.lecture_parameters()
        step = peer_pycnn.training(parameters, images, labels, 1, "")
        operators, measured, steps = _measure(step, threads, rounds, calls)
    finally:
        pycnn.set_num_threads(before)
    peak = {count: machine.fma_peak(count) for count in threads}
    bandwidth = {count: machine.copy_bandwidth(count) for count in threads}
    clock = machine.clock_ghz()
    report: dict[str, Any] = {
        "batch": batch,
        "images": source,
        "isa": pycnn.isa(),
        "threads": threads,
        "clock_ghz": clock,
        "fma_peak_gflops": peak,
        "copy_gbytes_per_s": bandwidth,
        "caches": machine.caches(),
        "operators": [
            _operator_json(
                operator, {n: [s[i] for s in measured[n]] for n in threads}, batch, clock, peak
            )
            for i, operator in enumerate(operators)
        ],
        "step": {
            n: _step_json(measured[n], steps[n], network.step_flop(batch), peak[n]) for n in threads
        },
    }
    print(text(report))
    if plot:
        draw(report, plot)
    return report


def _measure(
    step: Callable[[int], float], threads: list[int], rounds: int, calls: int
) -> tuple[list[Operator], dict[int, list[list[float]]], dict[int, list[float]]]:
    """The operators, each step's seconds of each of them, and the seconds of unrecorded steps."""
    recorder = Recorder()
    done = 0

    def take() -> float:
        nonlocal done
        begin = time.perf_counter()
        step(done)
        done += 1
        return time.perf_counter() - begin

    for _ in range(WARM_UP_STEPS):
        take()
    with recording(recorder):
        recorder.describing = True
        take()
        recorder.describing = False
    operators, names = recorder.operators, recorder.names
    measured: dict[int, list[list[float]]] = {count: [] for count in threads}
    steps: dict[int, list[float]] = {count: [] for count in threads}
    for _ in range(rounds):
        for count in threads:
            pycnn.set_num_threads(count)
            take()
            steps[count] += [take() for _ in range(calls)]
            with recording(recorder):
                for _ in range(calls):
                    recorder.clear()
                    take()
                    if recorder.names != names:
                        raise RuntimeError("the operators of two steps differ")
                    measured[count].append(recorder.seconds)
    return operators, measured, steps


def _operator_json(
    operator: Operator,
    seconds: dict[int, list[float]],
    batch: int,
    clock: float | None,
    peak: dict[int, float],
) -> dict[str, Any]:
    row: dict[str, Any] = {**asdict(operator), "threads": {}}
    moved = operator.read_bytes + operator.written_bytes
    row["held_by"] = next((n for n, size in machine.caches().items() if moved <= size), "memory")
    for count, values in seconds.items():
        best = min(values)
        row["threads"][count] = {
            "min_s": best,
            "median_s": statistics.median(values),
            "cycles_per_image": best * clock * 1e9 / batch if clock else None,
            "gflops": operator.flop / best / 1e9,
            "share_of_peak": operator.flop / best / 1e9 / peak[count],
            "gbytes_per_s": moved / best / 1e9,
        }
    return row


def _step_json(
    measured: list[list[float]], steps: list[float], flop: float, peak: float
) -> dict[str, float]:
    sums = [sum(seconds) for seconds in measured]
    found = {
        "operators_min_s": min(sums),
        "operators_median_s": statistics.median(sums),
        "step_min_s": min(steps),
        "step_median_s": statistics.median(steps),
        "limit_s": flop / peak / 1e9,
    }
    for key in ("min", "median"):
        found[f"between_{key}_s"] = found[f"step_{key}_s"] - found[f"operators_{key}_s"]
    return found


def text(report: dict[str, Any]) -> str:
    """The table in the order of calls; under it the sum, the step, and what lies between."""
    threads = list(report["step"])
    headers = ["operator", "arrays"]
    for n in threads:
        headers += [f"{n}T min ms", "median", "cycles/image", "% of peak"]
    headers += ["MB read", "written", "held by"]
    rows = []
    for row in report["operators"]:
        line = [row["name"], row["arrays"]]
        for n in threads:
            line += _time_cells(row["threads"][n], row["flop"])
        line += [f"{row[key] / 1e6:.3f}" for key in ("read_bytes", "written_bytes")]
        rows.append([*line, row["held_by"]])
    keys = {"operators": "all operators", "step": "the step", "between": "between operators"}
    for key, name in keys.items():
        line = [name, ""]
        for n in threads:
            step = report["step"][n]
            best, middle = step[f"{key}_min_s"], step[f"{key}_median_s"]
            share = "" if key == "between" else f"{step['limit_s'] / best:.0%}"
            cycles = _cycles(best, report)
            line += [f"{best * 1e3:.3f}", f"{middle * 1e3:.3f}", cycles, share]
        rows.append([*line, "", "", ""])
    peaks = ", ".join(
        f"{n} thread(s): FMA peak {report['fma_peak_gflops'][n]:.1f} GFLOP/s, copies "
        f"{report['copy_gbytes_per_s'][n]:.1f} GB/s"
        for n in threads
    )
    clock = f"{report['clock_ghz']:.2f} GHz" if report["clock_ghz"] else "unknown (no AVX2)"
    head = f"\nTraining step, batch {report['batch']}, {report['isa']}, clock {clock}, {peaks}"
    return "\n".join([head, NOTE, table(headers, rows)])


NOTE = (
    "FLOP as direct convolution counts them. Cycles are of the clock on the wall. Bytes are those "
    "of the arrays, each once;\n`held by`: the smallest cache that could hold them all."
)


def _time_cells(times: dict[str, Any], flop: float) -> list[str]:
    cycles = times["cycles_per_image"]
    return [
        f"{times['min_s'] * 1e3:.3f}",
        f"{times['median_s'] * 1e3:.3f}",
        "-" if cycles is None else f"{cycles:.0f}",
        f"{times['share_of_peak']:.0%}" if flop else "",
    ]


def _cycles(seconds: float, report: dict[str, Any]) -> str:
    clock = report["clock_ghz"]
    return f"{seconds * clock * 1e9 / report['batch']:.0f}" if clock else "-"


def draw(report: dict[str, Any], path: Path) -> None:
    """Left the milliseconds of the step, right the roofline with an operator a point."""
    figure, (bars, roof) = plots.pyplot().subplots(1, 2, figsize=(16, 8))
    operators = report["operators"]
    names = [f"{i + 1} {row['name']} {row['arrays'].split(',')[0].split(' ')[0]}" for i, row in
             enumerate(operators)]  # fmt: skip
    at = np.arange(len(names) + 1)
    threads = list(report["step"])
    for k, n in enumerate(threads):
        times = [row["threads"][n]["median_s"] * 1e3 for row in operators]
        times.append(report["step"][n]["between_median_s"] * 1e3)
        bars.barh(at + 0.8 * k / len(threads), times, 0.8 / len(threads), label=f"{n} thread(s)")
    bars.set_yticks(at + 0.3, [*names, "between operators"], fontsize=7)
    bars.invert_yaxis()
    bars.set_xlabel("median ms of a step")
    bars.legend()
    for k, n in enumerate(threads):
        peak, bandwidth = report["fma_peak_gflops"][n], report["copy_gbytes_per_s"][n]
        x = np.logspace(-1, 3.5, 100)
        roof.plot(x, np.minimum(peak, x * bandwidth), color=f"C{k}", label=f"{n} thread(s)")
        for i, row in enumerate(operators):
            if row["flop"]:
                intensity = row["flop"] / (row["read_bytes"] + row["written_bytes"])
                gflops = row["threads"][n]["gflops"]
                roof.plot(intensity, gflops, "o", color=f"C{k}", markersize=5)
                roof.annotate(str(i + 1), (intensity, gflops), fontsize=8)
    roof.set_xscale("log")
    roof.set_yscale("log")
    roof.set_xlabel("FLOP (of direct convolution) a byte of the arrays")
    roof.set_ylabel("GFLOP/s")
    roof.set_title(f"{machine.cpu_name()}, {report['isa']}, batch {report['batch']}", fontsize=9)
    roof.grid(True, which="both", alpha=0.3)
    roof.legend()
    figure.tight_layout()
    plots.save(figure, path)
