"""Whole networks beside the peers: training steps, answers, and the way from a file to an answer.

Every contestant begins with the arrays that PyTorch has drawn (`peers/torch_export.py`), and what
they compute is compared before it is timed.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from . import machine, plots
from .bench_sweep import SAMPLE_S, notes_of_quiet, rounds_for, samples_for
from .peers.contest import PAUSE_S, ROOT, Contestant, Worker, WorkerError
from .peers.sizes import ANSWERS, STEPS
from .timing import duration, geometric_mean, table

PYCNN = Contestant("pycnn", "peer_pycnn")
CONTESTANTS = {
    "step": [PYCNN, Contestant("PyTorch channels_last", "peer_torch", "channels_last")],
    "answer": [
        PYCNN,
        Contestant("ONNX Runtime", "peer_onnxruntime"),
        Contestant("OpenVINO f32", "peer_openvino"),
    ],
}
BUDGET_S = 20.0  # of all contestants' calls of one case
# Of the largest answer; of a loss, where dropout draws other masks on each side.
TOLERANCES = {"step": 2e-2, "answer": 1e-3}


def run(
    *,
    threads: int,
    rounds: int,
    batches: list[int],
    networks: list[str],
    parts: list[str],
    peers_python: str,
    plot: Path | None,
) -> dict[str, Any]:
    """Measure, print a table a part, plot, return what goes to the JSON file."""
    report: dict[str, Any] = {"threads": threads, "rounds": rounds, "rows": [], "notes": []}
    with tempfile.TemporaryDirectory() as folder:
        for what, names in (("step", STEPS), ("answer", ANSWERS)):
            chosen = [name for name in names if name in networks and what in parts]
            rows, notes = [], export(folder, what, chosen, peers_python)
            for name in chosen:
                found, said = measure(
                    {"folder": folder, "what": what, "network": name},
                    [None] if what == "step" else batches,
                    threads,
                    rounds,
                    peers_python,
                )
                rows, notes = rows + found, notes + said
            if chosen:
                print(text(what, rows, threads))
                print(*dict.fromkeys(notes), sep="\n", end="\n" if notes else "")
            report["rows"] += rows
            report["notes"] += notes
        if "file" in parts and "resnet50" in networks:
            exported = Path(folder, "answer-resnet50.onnx")
            if not exported.exists():
                export(folder, "answer", ["resnet50"], peers_python)
            report["file"] = from_file(exported, threads, min(rounds, 3))
    report["summary"] = summary(report["rows"])
    if plot and report["rows"]:
        plots.networks(report, plot)
    return report


def export(folder: str, what: str, names: list[str], peers_python: str) -> list[str]:
    """Let PyTorch write what all begin with; sentences of what failed."""
    if not names:
        return []
    words = [f"{what}:{name}" for name in names]
    done = subprocess.run(
        [peers_python, "-m", "benchmarks.peers.torch_export", folder, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        return [f"PyTorch's arrays are missing: {last[0]}"]
    failed = json.loads(done.stdout.splitlines()[-1])
    return [f"{word} is left out: {reason}" for word, reason in failed.items()]


def measure(
    job: dict[str, Any],
    batches: list[int] | list[None],
    threads: int,
    rounds: int,
    peers_python: str,
) -> tuple[list[dict[str, Any]], list[str]]:
    """One network, a process a contestant: a row a batch size, and notes."""
    what, notes, rows = job["what"], [], []
    with ExitStack() as stack:
        workers: dict[str, tuple[Worker, str]] = {}
        for one in CONTESTANTS[what]:
            python = sys.executable if one is PYCNN else peers_python
            worker = stack.enter_context(Worker(one, python, "network", threads))
            try:
                workers[one.name] = worker, worker.prepare()
            except WorkerError as error:
                notes.append(f"{one.name} is left out: {error}")
        for batch in batches:
            replies = {}
            for name, (worker, _) in list(workers.items()):
                try:
                    replies[name] = worker.ask({"build": {**job, "batch": batch}})
                except WorkerError as error:
                    notes.append(f"{job['network']}: {name} is left out: {error}")
                    del workers[name]
            if replies:
                difference = largest_difference(replies, what)
                if difference > TOLERANCES[what]:
                    notes.append(
                        f"WARNING: {job['network']}, {what}: contestants differ by "
                        f"{difference:.1e} of the largest value."
                    )
                row, said = contest(job, batch, workers, replies, rounds)
                rows.append({**row, "difference": difference})
                notes += said
    return rows, notes


def largest_difference(replies: dict[str, Any], what: str) -> float:
    """Of anybody's first results from the first one's, as a share of the largest value."""
    values = [np.array(reply["values"][what]) for reply in replies.values()]
    largest = max(float(np.abs(values[0]).max()), 1e-30)
    return max(float(np.abs(other - values[0]).max()) / largest for other in values)


def contest(
    job: dict[str, Any],
    batch: int | None,
    workers: dict[str, tuple[Worker, str]],
    replies: dict[str, Any],
    rounds: int,
) -> tuple[dict[str, Any], list[str]]:
    """Time what all have built, in turn; each round begins with the next."""
    what = job["what"]
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    busy: list[float] = []
    idle: dict[str, list[float]] = {name: [] for name in workers}
    together = sum(reply["call_s"][what] for reply in replies.values())
    rounds = rounds_for(together, rounds, BUDGET_S)
    order = list(workers)
    for round_ in range(rounds):
        first = round_ % len(order)
        for name in order[first:] + order[:first]:
            busy.append(machine.busy_share(PAUSE_S))
            request = {"direction": what, "samples": samples_for(together), "sample_s": SAMPLE_S}
            reply = workers[name][0].ask(request)
            seconds[name] += reply["seconds"]
            idle[name].append(reply["idle_cpu_s"])
    row = {
        "what": what,
        "network": job["network"],
        "batch": batch or STEPS[job["network"]][1][0],
        "rounds": rounds,
        "contestants": {
            name: {
                "version": workers[name][1],
                "min_s": min(values),
                "median_s": statistics.median(values),
            }
            for name, values in seconds.items()
        },
    }
    return {**row, **ratios(row["contestants"])}, notes_of_quiet(busy, idle, PAUSE_S)


def ratios(contestants: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The fastest peer's time / pycnn's, of minima and of medians; None where a side is missing."""
    peers = [one for name, one in contestants.items() if name != PYCNN.name]
    mine = contestants.get(PYCNN.name)
    return {
        f"ratio_{key}": min(p[f"{key}_s"] for p in peers) / mine[f"{key}_s"]
        if peers and mine
        else None
        for key in ("min", "median")
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Geometric mean and worst ratio, by part and batch size."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = "step" if row["what"] == "step" else f"answer, batch {row['batch']}"
        if row["ratio_min"]:
            found.setdefault(name, {"rows": []})["rows"].append(row)
    for entry in found.values():
        rows = entry.pop("rows")
        for key in ("min", "median"):
            entry[f"geometric_mean_{key}"] = geometric_mean([r[f"ratio_{key}"] for r in rows])
        worst = min(rows, key=lambda row: row["ratio_min"])
        entry.update(worst=worst["ratio_min"], worst_network=worst["network"], cases=len(rows))
    return found


def text(what: str, rows: list[dict[str, Any]], threads: int) -> str:
    """The tables of one part."""
    names = [one.name for one in CONTESTANTS[what]]
    title = {"step": "Training step (SGD)", "answer": "Answer of the compiled network"}[what]
    versions = {n: c["version"] for row in rows for n, c in row["contestants"].items()}
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines = []
    for row in rows:
        cells = [row["network"], str(row["batch"])]
        for name in names:
            one = row["contestants"].get(name)
            cells += [duration(one["min_s"]), duration(one["median_s"])] if one else ["-", "-"]
        cells += [f"{row[k]:.2f}" if row[k] else "-" for k in ("ratio_min", "ratio_median")]
        lines.append([*cells, f"{row['difference']:.0e}", str(row["rounds"])])
    headers = ["network", "N"]
    for name in names:
        headers += [f"{name} min", "median"]
    headers += ["ratio of minima", "of medians", "difference", "rounds"]
    parts = [
        f"\n{title}, {threads} thread(s), {told}. Ratio: the fastest peer / pycnn.",
        table(headers, lines),
    ]
    for name, entry in summary(rows).items():
        parts.append(
            f"{name}: geometric mean {entry['geometric_mean_min']:.2f} of minima, "
            f"{entry['geometric_mean_median']:.2f} of medians; worst {entry['worst']:.2f} "
            f"({entry['worst_network']})"
        )
    return "\n".join(parts)


def from_file(path: Path, threads: int, rounds: int) -> dict[str, Any]:
    """Import, compile and memory of ResNet-50, a process each time; the best of `rounds`."""
    runs = []
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.onnx_worker", str(path), str(threads)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            print(f"\nfile: left out: {last[0]}")
            return {"left_out": last[0]}
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    best = {
        key: runs[0][key] if isinstance(runs[0][key], str) else min(run[key] for run in runs)
        for key in runs[0]
    }
    print(f"\nResNet-50 from its ONNX file, {threads} thread(s), batch 1, the best of {rounds}")
    told = {k: value if isinstance(value, str) else f"{value:.3g}" for k, value in best.items()}
    print(table(("what", ""), [[key, value] for key, value in told.items()]))
    return best
