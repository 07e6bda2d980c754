"""A link between two ranks of one machine that is as slow as a network between two machines.

Messages really travel through shared memory, which costs both cores some time; but nobody sees one
before alpha + beta bytes have passed since both sides were ready, and before the link has carried
those that came earlier. As with a network card, that time costs no core anything.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

TAGS, KEPT = 256, 4  # messages of a tag, of which a rank may still ask


class SlowLink:
    """A communicator of mpi4py of two ranks, whose Irecv and Isend are slow."""

    def __init__(self, comm: Any, alpha: float, beta: float) -> None:
        """alpha: seconds; beta: seconds a byte."""
        from mpi4py import MPI

        self._comm, self.alpha, self.beta = comm, alpha, beta
        self._window = MPI.Win.Allocate_shared(TAGS * KEPT * 16, 8, comm=comm)
        # [time, number] of the last messages that each rank has posted, in memory of both
        self._posted = [
            np.frombuffer(self._window.Shared_query(rank)[0]).reshape(TAGS, KEPT, 2)
            for rank in range(2)
        ]
        self._posted[comm.rank][...] = 0
        comm.Barrier()
        self._sent, self._received = [0] * TAGS, [0] * TAGS
        self._free = 0.0  # when the link has carried what was found so far

    def __getattr__(self, name: str) -> Any:
        return getattr(self._comm, name)

    def Isend(self, array: Any, to: int, tag: int) -> Any:
        number = self._sent[tag] = self._sent[tag] + 1
        entry = self._posted[self._comm.rank][tag, number % KEPT]
        entry[0] = time.monotonic()
        entry[1] = number
        return self._comm.Isend(array, to, tag)

    def Irecv(self, array: Any, source: int, tag: int) -> SlowRequest:
        number = self._received[tag] = self._received[tag] + 1
        entry = self._posted[source][tag, number % KEPT]
        return SlowRequest(self, self._comm.Irecv(array, source, tag), entry, number, array.nbytes)

    def carry(self, ready: float, size: int) -> float:
        """When a message arrives whose sides were ready then."""
        self._free = max(self._free, ready) + self.beta * size
        return self._free + self.alpha


class SlowRequest:
    """What Irecv returns."""

    def __init__(self, link: SlowLink, request: Any, entry: Any, number: int, size: int) -> None:
        self._link, self._request, self._entry = link, request, entry
        self._number, self._size = number, size
        self._began = time.monotonic()
        self._arrives: float | None = None

    def Test(self) -> bool:
        if self._arrives is None and self._entry[1] == self._number:
            ready = max(self._began, float(self._entry[0]))
            self._arrives = self._link.carry(ready, self._size)
        arrived = self._arrives is not None and time.monotonic() >= self._arrives
        return bool(self._request.Test()) and arrived

    def Wait(self) -> None:
        while not self.Test():
            pass
