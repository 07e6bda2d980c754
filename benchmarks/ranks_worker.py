"""What one process, or each rank of a job, does for `bench_ranks`; rank 0 prints one JSON line.

python -m benchmarks.ranks_worker '{"job": "steps", ...}', by itself or under mpiexec.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import pycnn
from pycnn import losses, models, optim, ranks
from pycnn.ranks import gradients

from .networks import make
from .slow_link import SlowLink

# name: (network, shape of an image, classes, optimizer)
NETWORKS: dict[str, tuple[Callable[[], Any], tuple[int, ...], int, Callable[[Any], Any]]] = {
    "lecture": (
        lambda: models.mnist_cnn(0),
        (28, 28, 1),
        10,
        lambda parameters: optim.Adam(parameters, 1e-3),
    ),
    "resnet20": (
        lambda: models.resnet20(rng=0),
        (32, 32, 3),
        10,
        lambda parameters: optim.SGD(parameters, 0.01, momentum=0.9),
    ),
    "resnet18": (
        lambda: make("resnet18"),
        (112, 112, 3),
        1000,
        lambda parameters: optim.SGD(parameters, 0.01, momentum=0.9),
    ),
}


class LeftOut:
    """Stands where `gradients.Sum` stood: nothing is sent, and nothing added."""

    def __init__(self, comm: Any, array: Any, tag: int, space: Any, *, whole: bool) -> None:
        self.tag = tag

    def advance(self) -> bool:
        return True


def stepper(job: dict[str, Any], group: ranks.Ranks) -> Callable[[], float]:
    """A function that makes one step and returns its seconds."""
    make, shape, classes, optimizer_of = NETWORKS[job["network"]]
    model = make()
    optimizer = optimizer_of(model.parameters())
    rng = np.random.default_rng(0)
    batch = job["batch"]
    part = group.part(batch)
    x = rng.random((batch, *shape), np.float32)[part]
    labels = rng.integers(0, classes, batch)[part]
    loss_of = losses.SoftmaxCrossEntropy()

    def step() -> float:
        began = time.perf_counter()
        optimizer.zero_grad()
        for slot in group.share(batch):
            loss, dlogits = loss_of(model.forward(x[slot.here]), labels[slot.here])
            model.backward(slot.scaled(dlogits), input_gradient=False)
            slot.note(loss * slot.weight)
        group.reduce(optimizer.parameters)
        optimizer.step()
        return time.perf_counter() - began

    return step


def steps(job: dict[str, Any], comm: Any) -> dict[str, Any]:
    """Seconds of each step, and those of waiting and moving of all together."""
    group = ranks.Ranks(comm, job["slots"])
    step = stepper(job, group)
    for _ in range(2):
        step()
    group.seconds.update(waiting=0.0, moving=0.0)
    seconds = [step() for _ in range(job["steps"])]
    return {
        "seconds": seconds,
        "threads": pycnn.get_num_threads(),
        **{name: value / job["steps"] for name, value in group.seconds.items()},
    }


def overlap(job: dict[str, Any], comm: Any) -> dict[str, Any]:
    """Seconds of steps with overlap, without it, and without sums, in turn."""
    if "bucket" in job:
        gradients.BUCKET = job["bucket"]
    group = ranks.Ranks(comm, job["slots"])
    if "link" in job:
        group.gradients.comm = SlowLink(group.comm, *job["link"])
    step = stepper(job, group)
    found: dict[str, Any] = {"with": [], "without": [], "no sums": []}
    usual = gradients.Sum
    for turn in range(job["steps"] + 1):
        for name, seconds in found.items():
            group.gradients.overlap = name == "with"
            gradients.Sum = LeftOut if name == "no sums" else usual
            elapsed = step()
            if turn:  # the first one warms up
                seconds.append(elapsed)
    return found


def exchange(job: dict[str, Any], comm: Any) -> dict[str, Any]:
    """Half of a ping-pong between two ranks, and an exchange of both at once, by bytes."""
    other = 1 - comm.rank
    mine, theirs = (np.zeros(max(job["bytes"]), np.uint8) for _ in range(2))

    def there_and_back(size: int) -> None:
        if comm.rank:
            comm.Recv(theirs[:size], other)
            comm.Send(mine[:size], other)
        else:
            comm.Send(mine[:size], other)
            comm.Recv(theirs[:size], other)

    def both_at_once(size: int) -> None:
        arrival = comm.Irecv(theirs[:size], other)
        comm.Isend(mine[:size], other).Wait()
        arrival.Wait()

    found: dict[str, Any] = {"ping-pong": {}, "exchange": {}}
    for size in job["bytes"]:
        calls = max(3, min(200, round(2e7 / (size + 1e4))))
        for name, call, part in (
            ("ping-pong", there_and_back, 0.5),
            ("exchange", both_at_once, 1.0),
        ):
            samples = []
            for i in range(job["samples"] + 1):
                comm.Barrier()
                began = time.perf_counter()
                for _ in range(calls):
                    call(size)
                if i:
                    samples.append(part * (time.perf_counter() - began) / calls)
            found[name][size] = samples
    found["addition"] = additions(max(job["bytes"]) // 8, comm)
    return found


def additions(count: int, comm: Any) -> list[float]:
    """Seconds a byte of adding one array to another, on both ranks at once."""
    a, b = np.ones(count, np.float32), np.ones(count, np.float32)
    samples = []
    for _ in range(5):
        comm.Barrier()
        began = time.perf_counter()
        ranks.tree.prepared.accumulate(a, b)
        samples.append((time.perf_counter() - began) / a.nbytes)
    return samples


def endless(job: dict[str, Any], comm: Any) -> None:
    """Steps until somebody kills the last rank, which prints its process id."""
    step = stepper(job, ranks.Ranks(comm, job["slots"]))
    for _ in range(3):
        step()
    if comm.rank == comm.size - 1:
        print(json.dumps({"pid": os.getpid()}), flush=True)
    while True:
        step()


JOBS = {"steps": steps, "overlap": overlap, "exchange": exchange, "endless": endless}


def main() -> None:
    job = json.loads(sys.argv[1])
    comm = None
    if job.get("mpi"):
        from mpi4py import MPI

        comm = MPI.COMM_WORLD
    if job.get("threads"):
        pycnn.set_num_threads(job["threads"])
    found = JOBS[job["job"]](job, comm)
    if comm is None or comm.rank == 0:
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
