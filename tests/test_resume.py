"""Runs that are killed with SIGKILL at any moment and resumed end with the same bytes.

One process per run, each in a folder of its own; the run that is never stopped tells what is right.
The moments are steps, writes and evaluations that a seeded generator picks: a moment of the clock
would be another one on every machine.
"""

import os
import random
import signal
import subprocess
import sys

import pytest
from idx_files import write_folder
from train_command import ENVIRONMENT, command

import pycnn

# Dies by its own SIGKILL: in the n-th call of what is named, or, "after", when main has returned.
KILLER = """
import os, signal, sys
place, n = sys.argv[1], int(sys.argv[2])
import pycnn._formats.files, pycnn.trainer, pycnn.callbacks.logs
from pycnn import train
calls = 0

def dying(function, before=True):
    def wrapped(*arguments, **options):
        global calls
        calls += 1
        if before and calls == n:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **options)
        if calls == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapped

Trainer = pycnn.trainer.Trainer
if place == "step":
    Trainer._run_step = dying(Trainer._run_step, before=False)
elif place == "validation":
    from pycnn.trainer import evaluation
    evaluation.loss_of = dying(evaluation.loss_of)
elif place == "write":  # the temporary file is there, with a part of its bytes
    fsync = os.fsync
    os.fsync = dying(fsync)
elif place == "rename":  # the file has its name, the log is not written yet
    os.replace = dying(os.replace, before=False)
elif place == "log":
    log = pycnn.callbacks.logs.JsonLog
    line = log._line
    def half(self, **values):
        global calls
        calls += 1
        line(self, **values)
        if calls == n:
            size = self.path.stat().st_size
            os.truncate(self.path, size - 9)
            os.kill(os.getpid(), signal.SIGKILL)
    log._line = half
code = train.main(sys.argv[3:])
if place == "after":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(code)
"""
RECIPE = [
    "--recipe", "best", "--set", "channels=[2, 3]", "--set", "convolutions=[1, 2]",
    "--set", "ema=0.9", "--set", "momentum=0.5", "--optimizer", "sgd", "--lr", "0.05",
    "--schedule", "plateau", "--set", "warmup=0.1", "--set", "clip_norm=1",
    "--epochs", "3", "--validation-size", "20", "--batch-size", "10", "--test-batch-size", "10",
]  # fmt: skip
ALWAYS = ["--log-interval", "2", "--save-every", "3", "--quiet"]
FILES = ("last.safetensors", "best.safetensors", "log.jsonl")
STEPS = 24  # 8 an epoch


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data"), train=100, test=20)


def environment(isa=None, threads=1):
    chosen = {} if isa is None else {"PYCNN_ISA": isa}
    return {**ENVIRONMENT, **chosen, "PYCNN_NUM_THREADS": str(threads)}


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment(**options), capture_output=True, text=True, check=False,
    )  # fmt: skip


def contents(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def expected(data, tmp_path_factory):
    """The files of a run that is never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    options = [*RECIPE, *ALWAYS, "--data-dir", data, "--checkpoint-dir", folder]
    whole = run("-m", "pycnn.train", *options)
    assert whole.returncode == 0, whole.stderr
    return contents(folder)


def moments():
    """20 of them: (place, n), the same in every run of the tests."""
    pick = random.Random(5)
    places = {
        "step": (3, STEPS, 6),  # the first checkpoint comes after step 3
        "validation": (1, 6, 3),  # 2 batches an epoch
        "write": (3, 20, 4),  # two an atomic file: of the file, of the folder
        "rename": (1, 10, 3),
        "log": (4, 15, 2),
    }
    found = []
    for place, (low, high, count) in places.items():
        found += [(place, n) for n in sorted(pick.sample(range(low + 1, high + 1), count))]
    return [*found, ("after", 0), ("step", 1)]


ISAS = [isa for isa in pycnn.available_isas() if isa in ("avx2", "avx512")]  # the same bits


def each_moment():
    """Of each place the first; the others are slow together."""
    places = set()
    for place, n in moments():
        marks = pytest.mark.slow if place in places else ()
        yield pytest.param(place, n, id=f"{place}_{n}", marks=marks)
        places.add(place)


@pytest.mark.parametrize(("place", "n"), list(each_moment()))
def test_a_killed_run_goes_on_bit_for_bit(data, expected, tmp_path, place, n):
    options = [*RECIPE, *ALWAYS, "--data-dir", data, "--checkpoint-dir", tmp_path]
    threads = 1 + n % 2
    killed = run("-c", KILLER, place, n, *options, isa=ISAS[n % 2] if len(ISAS) > 1 else None)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = {path.name for path in tmp_path.iterdir()}
    again = ["-m", "pycnn.train", "--resume", tmp_path, *ALWAYS, "--data-dir", data]
    goes_on = run(*again, threads=3 - threads, isa=ISAS[1 - n % 2] if len(ISAS) > 1 else None)
    if "last.safetensors" not in before:
        assert goes_on.returncode == 1
        assert goes_on.stderr.count("\n") == 1
        assert "found no checkpoint" in goes_on.stderr
        assert place == "step"
        goes_on = run("-m", "pycnn.train", *options)  # anew
    assert goes_on.returncode == 0, goes_on.stderr
    assert contents(tmp_path) == expected
    assert {path.name for path in tmp_path.iterdir()} == {".lock", *FILES}


@pytest.mark.slow
def test_killed_again_and_again(data, expected, tmp_path):
    options = [*RECIPE, *ALWAYS, "--data-dir", data]
    where = ["--checkpoint-dir", tmp_path]
    for place, n in (("step", 5), ("log", 2), ("write", 2), ("rename", 2), ("step", 9)):
        killed = run("-c", KILLER, place, n, *options, *where)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        options, where = [*ALWAYS, "--data-dir", data], ["--resume", tmp_path]
    goes_on = run("-m", "pycnn.train", *options, *where)
    assert goes_on.returncode == 0, goes_on.stderr
    assert contents(tmp_path) == expected


def test_killed_by_another_process_at_a_moment_of_the_clock(data, expected, tmp_path):
    options = [*RECIPE, *ALWAYS, "--data-dir", data, "--checkpoint-dir", tmp_path]
    process = subprocess.Popen(
        [sys.executable, "-m", "pycnn.train", *map(str, options)],
        env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None and not (tmp_path / "last.safetensors").exists():
        os.sched_yield()
    process.kill()
    process.wait()
    goes_on = command("--resume", tmp_path, *ALWAYS, "--data-dir", data)
    assert goes_on.returncode == 0, goes_on.stderr
    assert contents(tmp_path) == expected
