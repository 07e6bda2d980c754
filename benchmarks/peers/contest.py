"""The parent's side of a contest: one worker a contestant, asked in turn for blocks of calls."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import machine
from . import network

ROOT = Path(__file__).resolve().parents[2]
# Long enough for the last contestant's thread pool to give up spinning and fall asleep.
PAUSE_S = 0.2
# What the benchmarks or the shell may have set for NumPy's BLAS; no contestant needs it.
DROPPED_VARIABLES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


@dataclass(frozen=True)
class Contestant:
    """Who takes part: the name in the table, the file in this folder, the variant in that file."""

    name: str
    module: str
    variant: str = ""


@dataclass
class Result:
    """What one contestant did in one contest."""

    name: str
    version: str
    threads: int
    seconds: list[float] = field(default_factory=list)  # of each call, all rounds
    values: list[float] = field(default_factory=list)  # losses of all steps, or the first logits
    idle_cpu_s: float = 0.0  # the most CPU time it took while it should have slept

    def as_json(self) -> dict[str, Any]:
        """The summary that goes to the JSON file."""
        return {
            "name": self.name,
            "version": self.version,
            "threads": self.threads,
            "calls": len(self.seconds),
            "min_s": min(self.seconds),
            "median_s": statistics.median(self.seconds),
            "idle_cpu_s": self.idle_cpu_s,
        }


class WorkerError(RuntimeError):
    """A worker ended or refused; the message is for people."""


class Worker:
    """A contestant's process. Use as a context manager: it ends with the block."""

    def __init__(
        self,
        contestant: Contestant,
        python: str,
        task: str,
        threads: int,
        data: Path | None = None,
        environment: dict[str, str] | None = None,
    ):
        self.name = contestant.name
        environment = {**os.environ, **(environment or {})}
        environment = {k: v for k, v in environment.items() if k not in DROPPED_VARIABLES}
        environment["OMP_NUM_THREADS"] = str(threads)
        # Closed in __exit__. A file, since nobody reads a pipe while the worker writes.
        self._log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.peers.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        self._job = {
            "module": contestant.module,
            "variant": contestant.variant,
            "task": task,
            "threads": threads,
            "data": str(data),
        }

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._log.close()

    def prepare(self) -> str:
        """Import the framework and build the network; returns its version."""
        return self.ask(self._job)["version"]

    def block(self, calls: int) -> dict[str, Any]:
        """Run `calls` calls; see `worker`."""
        return self.ask({"calls": calls})

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """The worker's reply, or a WorkerError."""
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._log.seek(0)
            last = self._log.read().strip().splitlines()[-1:] or ["it said nothing"]
            raise WorkerError(f"its process ended with {self._process.wait()}: {last[0]}")
        reply = json.loads(line)
        if "missing" in reply:
            raise WorkerError(f"not installed: {reply['missing']}")
        if "error" in reply:
            raise WorkerError(f"failed: {reply['error'].strip().splitlines()[-1]}")
        return reply


def worker_of(
    contestant: Contestant, task: str, threads: int, data: Path, peers_python: str
) -> Worker:
    """pycnn in this interpreter, another in the peers'."""
    python = sys.executable if contestant.module == "peer_pycnn" else peers_python
    return Worker(contestant, python, task, threads, data)


def hold(
    contestants: list[Contestant],
    task: str,
    *,
    threads: int,
    parameters: list[np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    rounds: int,
    calls: int,
    peers_python: str,
) -> tuple[list[Result], list[str]]:
    """Time `rounds` blocks of `calls` calls of each contestant, interleaved; the others sleep.

    The first block of each is its warm-up: it counts as steps, not as time. Each round starts with
    the next contestant. Returns the results, and sentences: who is left out, what disturbed the
    contest.
    """
    left_out: list[str] = []
    busy: list[float] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        data = network.save(folder, parameters, images, labels)
        entries: list[tuple[Worker, Result]] = []
        for contestant in contestants:
            worker = stack.enter_context(worker_of(contestant, task, threads, data, peers_python))
            try:
                result = Result(contestant.name, worker.prepare(), threads)
                result.values = worker.block(calls)["values"]
                entries.append((worker, result))
            except WorkerError as error:
                left_out.append(f"{contestant.name} is left out: {error}")
        for round_ in range(rounds):
            first = round_ % max(1, len(entries))
            for entry in entries[first:] + entries[:first]:
                busy.append(machine.busy_share(PAUSE_S))
                try:
                    _timed_block(*entry, calls, keep_values=task == "training")
                except WorkerError as error:
                    left_out.append(f"{entry[0].name} is left out: {error}")
                    entries.remove(entry)
    results = [result for _, result in entries]
    return results, left_out + _warnings(results, busy)


def _timed_block(worker: Worker, result: Result, calls: int, *, keep_values: bool) -> None:
    block = worker.block(calls)
    result.seconds += block["seconds"]
    result.idle_cpu_s = max(result.idle_cpu_s, block["idle_cpu_s"])
    if keep_values:
        result.values += block["values"]


def _warnings(results: list[Result], busy: list[float]) -> list[str]:
    share = statistics.mean(busy) if busy else 0.0
    others = (
        f"WARNING: other processes took {share:.0%} of the CPUs in the pauses of this contest: "
        "repeat it on a quiet machine."
    )
    return [others] * (share > machine.BUSY_SHARE) + [
        f"WARNING: {result.name} took {result.idle_cpu_s:.2f} s of CPU time between two of its "
        "blocks: its threads spin, and the others' figures suffer."
        for result in results
        if result.idle_cpu_s > PAUSE_S * result.threads
    ]
