"""The processes of a command: one, or the ranks of MPI that run the same command line."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from pycnn._commands.progress import complain
from pycnn._runtime import extras
from pycnn.ranks.together import abort

PATIENCE = 1.0  # seconds that rank 0 has for the sentence that all ranks have


class Job:
    """communicator: of mpi4py with --mpi, else None. rank, size: 0 of 1 without it."""

    def __init__(self, argv: Sequence[str] | None) -> None:
        """Look for --mpi before the options are parsed: their errors are rank 0's to tell."""
        self.communicator: Any = None
        self.rank, self.size = 0, 1
        if "--mpi" in (sys.argv[1:] if argv is None else argv):
            mpi = extras.need("mpi4py.MPI", "mpi", "--mpi")
            self.communicator = mpi.COMM_WORLD
            self.rank, self.size = self.communicator.rank, self.communicator.size

    @property
    def speaks(self) -> bool:
        """Whether this process prints lines and writes files."""
        return self.rank == 0

    def complain(self, text: str) -> None:
        """A sentence on stderr, once: other ranks give rank 0 the time to say it and end all."""
        if not self.speaks:
            time.sleep(PATIENCE)
        complain(text)

    def end(self, code: int, together: bool = False) -> int:
        """The exit code; unless all ranks end `together`, this one ends the others: they wait."""
        if self.size == 1 or code == 0:
            return code
        if together:
            return code if self.speaks else 0
        abort(self.communicator, code)
        return code
