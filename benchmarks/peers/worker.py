"""The process of one contestant, driven over its stdin and stdout.

The first line names the job; then each line asks for a block of calls:

    {"module", "task", "variant", "threads", "data"}    ->  {"version"} | {"missing"} | {"error"}
    {"calls"}                                           ->  {"seconds", "values", "idle_cpu_s"}

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

from . import network


def main() -> None:
    """Answer requests until stdin ends."""
    replies = _private_stdout()
    job = json.loads(sys.stdin.readline())
    # Before the framework is imported: some size their pools by it.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["threads"]])
    try:
        version, call = _prepare(job)
    except ImportError as error:
        _reply(replies, {"missing": str(error)})
        return
    except Exception:
        _reply(replies, {"error": traceback.format_exc()})
        return
    _reply(replies, {"version": version})
    done, cpu = 0, time.process_time()
    for line in sys.stdin:
        idle_cpu = time.process_time() - cpu
        try:
            block = _block(call, done, json.loads(line)["calls"])
        except Exception:
            _reply(replies, {"error": traceback.format_exc()})
            return
        done += len(block["seconds"])
        cpu = time.process_time()
        _reply(replies, {**block, "idle_cpu_s": idle_cpu})


def _prepare(job: dict[str, Any]) -> tuple[str, Callable[[int], Any]]:
    peer = importlib.import_module(f"benchmarks.peers.{job['module']}")
    parameters, images, labels = network.load(Path(job["data"]))
    if job["task"] == "training":
        call = peer.training(parameters, images, labels, job["threads"], job["variant"])
    else:
        call = peer.inference(parameters, images, job["threads"], job["variant"])
    return peer.version(), call


def _block(call: Callable[[int], Any], start: int, calls: int) -> dict[str, Any]:
    seconds, results = [], []
    for i in range(start, start + calls):
        begin = time.perf_counter()
        result = call(i)
        seconds.append(time.perf_counter() - begin)
        if isinstance(result, float) or not results:
            results.append(result)
    # Losses of all steps, or the logits of the block's first call.
    values = results if isinstance(results[0], float) else results[0].ravel().tolist()
    return {"seconds": seconds, "values": values}


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
