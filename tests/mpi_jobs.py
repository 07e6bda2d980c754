"""Starts jobs of several ranks with mpiexec, and looks whether all of them ended."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from train_command import PLACES

# The promise: from a rank's death to the end of the job.
LIMIT = 10.0
START = 120.0  # of a job that nobody disturbs; it decides nothing, but that a test ends

# Each rank tells its process id before it does anything else.
TELL = """\
import os
folder = os.environ["PYCNN_TEST_PIDS"]
with open(os.path.join(folder, f"{os.environ.get('PMI_RANK', '0')}.{os.getpid()}"), "w"):
    pass
"""


def mpiexec():
    """mpiexec of this environment, or None."""
    beside = os.path.join(os.path.dirname(sys.executable), "mpiexec")
    return beside if os.path.exists(beside) else shutil.which("mpiexec")


def why_not():
    if importlib.util.find_spec("mpi4py") is None:
        return "mpi4py is not installed: pip install 'pycnn[mpi]'"
    if mpiexec() is None:
        return "there is no mpiexec: pip install 'pycnn[mpi]'"
    # These tests use its -env, and the name of the variable that tells a rank its number.
    about = subprocess.run([mpiexec(), "--version"], capture_output=True, text=True, check=False)
    return None if "HYDRA" in about.stdout else f"{mpiexec()} is not that of MPICH"


REASON = why_not()
needs_mpi = pytest.mark.skipif(REASON is not None, reason=str(REASON))


# MPICH's mpiexec may tell, instead of MPI_Abort's code, the signal by which it ended the others.
KILLED = 9


class Job:
    """A job of mpiexec in `folder`, where its ranks leave their process ids."""

    def __init__(self, folder, *groups, ranks=None, **variables):
        """groups: the words after `python`, for all `ranks`, or one list for each rank.

        A dict at the end of a list holds environment variables of that rank.
        """
        self.pids = folder / "pids"
        shutil.rmtree(self.pids, ignore_errors=True)
        self.pids.mkdir(parents=True)
        (self.pids / "sitecustomize.py").write_text(TELL)
        self.size = ranks or len(groups)
        words = []
        for group in groups:
            own = group[-1] if isinstance(group[-1], dict) else {}
            given = [part for pair in own.items() for part in ("-env", *pair)]
            python = [word for word in group if not isinstance(word, dict)]
            each = str(self.size if ranks else 1)
            words += [*([":"] if words else []), "-n", each, *given, sys.executable, *python]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(self.pids), *PLACES]),
            "PYCNN_TEST_PIDS": str(self.pids),
            **variables,
        }
        self.process = subprocess.Popen(
            [mpiexec(), *map(str, words)],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out = self.err = ""

    def wait_for(self, text):
        """Until a line of stdout has this text."""
        for line in self.process.stdout:
            self.out += line
            if text in line:
                return self
        raise AssertionError(f"{text!r} never came: {self.out} {self.process.stderr.read()}")

    def pid(self, rank):
        (name,) = [p.name for p in self.pids.glob(f"{rank}.*") if p.suffix != ".py"]
        return int(name.split(".")[1])

    def end(self, limit=START):
        """The exit code; all ranks must have ended too, at once or nearly."""
        until = time.monotonic() + limit
        try:
            out, self.err = self.process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            self._kill()
            raise
        self.out += out
        while self.left() and time.monotonic() < until:
            time.sleep(0.02)
        left = self.left()
        self._kill()
        assert not left, f"{left} still run"
        return self.process.returncode

    def left(self):
        """The ranks' processes that run."""
        found = [int(path.name.split(".")[1]) for path in self.pids.glob("[0-9]*.*")]
        return [pid for pid in found if _runs(pid)]

    def _kill(self):
        for pid in self.left():
            os.kill(pid, signal.SIGKILL)
        if self.process.poll() is None:
            self.process.terminate()  # not kill: it has helpers of its own to end
            self.process.wait(LIMIT)
        self.process.stdout.close()
        self.process.stderr.close()

    @property
    def sentences(self):
        """The lines of ours on stderr; those of mpiexec are left out."""
        assert "Traceback" not in self.err, self.err
        return re.findall(r"^(?:python -m )?pycnn\.train: .*$", self.err, re.MULTILINE)


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
