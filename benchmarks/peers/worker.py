"""The process of one contestant, driven over its stdin and stdout.

The first line names the job; then each line asks for a block of calls:

    {"module", "task", "variant", "threads", "data"}    ->  {"version"} | {"missing"} | {"error"}
    {"calls"}                                           ->  {"seconds", "values", "idle_cpu_s"}

or, if the task is "convolution" or "network", for one to build and for samples of one direction:

    {"build"}                               ->  {"call_s", "values"}, each by direction
    {"direction", "samples", "sample_s"}    ->  {"seconds", "calls", "idle_cpu_s"}

or, if the task is "recipe", for one whole training:

    {"settings", "seed"}                    ->  {"seconds", "test", "validation", "idle_cpu_s"}

Between blocks the process is blocked in a read. `idle_cpu_s` is the CPU time that its threads took
since the last block all the same: pools that spin when idle would disturb the others.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ..timing import Case, calibrate, seconds_per_call
from . import network


def main() -> None:
    """Answer requests until stdin ends."""
    replies = _private_stdout()
    job = json.loads(sys.stdin.readline())
    # Before the framework is imported: some size their pools by it.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["threads"]])
    try:
        version, answer = _prepare(job)
    except ImportError as error:
        _reply(replies, {"missing": str(error)})
        return
    except Exception:
        _reply(replies, {"error": traceback.format_exc()})
        return
    _reply(replies, {"version": version})
    cpu = time.process_time()
    for line in sys.stdin:
        idle_cpu = time.process_time() - cpu
        try:
            block = answer(json.loads(line))
        except Exception:
            _reply(replies, {"error": traceback.format_exc()})
            return
        cpu = time.process_time()
        _reply(replies, {**block, "idle_cpu_s": idle_cpu})


Answer = Callable[[dict[str, Any]], dict[str, Any]]


def _prepare(job: dict[str, Any]) -> tuple[str, Answer]:
    peer = importlib.import_module(f"benchmarks.peers.{job['module']}")
    if job["task"] in ("convolution", "network"):
        options = job["threads"], job["variant"]
        if job["task"] == "network":
            return peer.version(), Cases(lambda one: peer.network(one, *options))
        return peer.version(), Cases(lambda one: peer.convolution(one, conv_arrays(one), *options))
    if job["task"] == "recipe":
        train = peer.recipe(network.load_splits(Path(job["data"])), job["threads"], job["variant"])
        return peer.version(), lambda request: train(request["settings"], request["seed"])
    parameters, images, labels = network.load(Path(job["data"]))
    if job["task"] == "training":
        call = peer.training(parameters, images, labels, job["threads"], job["variant"])
    else:
        call = peer.inference(parameters, images, job["threads"], job["variant"])
    return peer.version(), Blocks(call)


class Blocks:
    """Blocks of steps or forwards: call i takes batch i."""

    def __init__(self, call: Callable[[int], Any]) -> None:
        self._call, self._done = call, 0

    def __call__(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer {"calls"}."""
        seconds, results = [], []
        for i in range(self._done, self._done + request["calls"]):
            begin = time.perf_counter()
            result = self._call(i)
            seconds.append(time.perf_counter() - begin)
            if isinstance(result, float) or not results:
                results.append(result)
        self._done += request["calls"]
        # Losses of all steps, or the logits of the block's first call.
        values = results if isinstance(results[0], float) else results[0].ravel().tolist()
        return {"seconds": seconds, "values": values}


LONG_CALL_S = 0.02  # a sample is one such call, without a search for how many
VERY_LONG_CALL_S = 0.5
WARM_UP_S = 0.01


def warm_up(case: Case) -> None:
    """Call it for WARM_UP_S: its arrays and code are in the caches, its threads awake and apart.

    Threads that wake up from the pause may start on one CPU, until the scheduler parts them.
    """
    begin = time.perf_counter()
    while True:
        case.run()
        if time.perf_counter() - begin > WARM_UP_S:
            return


class Cases:
    """One convolution or network after another, each of its directions a `Case`."""

    def __init__(self, make: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._make = make
        self._cases: dict[str, Case] = {}

    def __call__(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer {"build"} or {"direction", "samples", "sample_s"}."""
        if "build" in request:
            return self._build(request["build"])
        case = self._cases[request["direction"]]
        if case.calls:
            warm_up(case)
        else:
            calibrate(case, request["sample_s"])
        samples = range(request["samples"])
        return {
            "seconds": [seconds_per_call(case.run, case.calls) for _ in samples],
            "calls": case.calls,
        }

    def _build(self, job: dict[str, Any]) -> dict[str, Any]:
        self._cases.clear()  # the last one's arrays go first
        seconds, values = {}, {}
        for direction, (call, read) in self._make(job).items():
            begin = time.perf_counter()
            result = call()
            elapsed = time.perf_counter() - begin
            values[direction] = sampled(read(result))
            del result  # the next one may take its memory
            if elapsed < VERY_LONG_CALL_S:  # else its preparations hardly count
                elapsed = seconds_per_call(call, 1)
            calls = 1 if elapsed >= LONG_CALL_S else 0
            self._cases[direction] = Case(direction, call, calls=calls)
            seconds[direction] = elapsed
        return {"call_s": seconds, "values": values}


def conv_arrays(job: dict[str, Any]) -> dict[str, np.ndarray]:
    """x, weight, bias and dy of a convolution: the same on all sides.

    A short run of normal values is repeated: to draw them all would take longer than to time them.
    """
    values = np.random.default_rng(0).standard_normal(99991, dtype=np.float32)
    shapes = {
        "x": job["input_shape"],
        "weight": job["weight_shape"],
        "bias": job["weight_shape"][3:],
        "dy": job["output_shape"],
    }
    return {name: np.resize(values, shape) for name, shape in shapes.items()}


def sampled(result: np.ndarray) -> list[float]:
    """Values at a hundred places, which are the same for results of one shape."""
    places = np.random.default_rng(1).integers(0, result.shape, (100, result.ndim))
    return [float(result[tuple(place)]) for place in places]


def _private_stdout() -> TextIO:
    # Whatever a framework prints goes to stderr, not into our replies.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def _reply(replies: TextIO, message: dict[str, Any]) -> None:
    replies.write(json.dumps(message) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
