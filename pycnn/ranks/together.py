"""What ranks agree on before and between their sums: cores, facts, and how all of them end."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import Any

from pycnn._runtime import machine

PASSED_ON = 0.2  # seconds that mpiexec has for our last lines


def share_cores(comm: Any) -> None:
    """Give each rank of one machine its part of the cores, unless somebody has set the threads.

    A rank that its MPI has bound to some cores uses no more than those.
    """
    from mpi4py import MPI

    here = comm.Split_type(MPI.COMM_TYPE_SHARED)
    bound = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}
    everyone = here.allgather((bound, machine.available_cpus()))
    together = len(set().union(*(cpus for cpus, _ in everyone)))
    # available_cpus also knows of a quota and of cores with two threads
    machine.share_with(here.size, min(together, sum(count for _, count in everyone)))
    here.Free()


def same(comm: Any, facts: dict[str, Any]) -> None:
    """ValueError on every rank unless all have the same facts."""
    mine = {name: json.dumps(value, sort_keys=True, default=repr) for name, value in facts.items()}
    everyone = comm.allgather(mine)
    for rank, other in enumerate(everyone):
        for name, value in everyone[0].items():
            if other.get(name) != value:
                raise ValueError(
                    f"Ranks: rank {rank} has {name} {_short(other.get(name))}, and rank 0 has "
                    f"{_short(value)}; expected the same on all ranks."
                )


def _short(text: str | None) -> str:
    text = str(text)
    return text if len(text) <= 120 else f"{text[:117]}..."


def abort(comm: Any, code: int) -> None:
    """End all ranks; mpiexec drops what it has not passed on by then, so give it some time."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    time.sleep(PASSED_ON)
    comm.Abort(code)


def end_all_on_error(comm: Any) -> None:
    """From now on an error that ends this process ends the whole job: others would wait for it."""
    before = sys.excepthook

    def hook(kind: Any, error: Any, traceback: Any) -> None:
        before(kind, error, traceback)
        abort(comm, 1)

    sys.excepthook = hook
