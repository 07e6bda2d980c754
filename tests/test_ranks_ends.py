"""How a job of ranks ends before its time: in seconds, with one sentence, and nobody is left.

The last checkpoint is whole, and goes on, on another number of ranks, to the bytes of a run that
nobody disturbed.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from idx_files import write_folder
from mpi_jobs import KILLED, LIMIT, Job, needs_mpi
from train_command import ENVIRONMENT, PLACES, command, small

import pycnn
from pycnn import checkpoint

pytestmark = needs_mpi
SLOW = pytest.mark.slow

HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data"), train=120, test=20)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("other"), train=120, test=20, seed=1)


@pytest.fixture(autouse=True)
def interruptible():
    """SIGINT as in a terminal: a shell's `command &` ignores it, and every child inherits that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def words(folder, *more):
    return ["-m", "pycnn.train", "--mpi", *map(str, small(folder, *more))]


# ---- it never begins ---------------------------------------------------------------------------


def assert_refused(job, *expected, code=2):
    assert job.end() in (code, KILLED)
    (sentence,) = job.sentences
    for text in expected:
        assert text in sentence
    assert "RESULT" not in job.out
    return sentence


def test_a_usage_error_is_one_sentence(folder, tmp_path):
    job = Job(tmp_path, words(folder, "--epochs", 0), ranks=4)
    assert_refused(job, "argument --epochs: '0' is not a number of epochs")
    assert job.out == ""


def test_ranks_that_do_not_divide_the_slots(folder, tmp_path):
    job = Job(tmp_path, words(folder), ranks=3)
    assert_refused(job, "3 ranks and 8 slots", "expected ranks that divide the slots: 1, 2, 4, 8")


@SLOW
def test_a_batch_smaller_than_the_slots(folder, tmp_path):
    job = Job(tmp_path, words(folder, "--slots", 16), ranks=2)
    assert_refused(job, "a batch of 10 samples and 16 slots")


@pytest.mark.parametrize(
    ("option", "what"),
    [
        (("--seed", 4), "seed"),
        pytest.param(("--lr", 0.5), "lr", marks=SLOW),
        pytest.param(("--optimizer", "sgd"), "optimizer", marks=SLOW),
        pytest.param(("--set", "label_smoothing=0.2"), "loss", marks=SLOW),
        pytest.param(("--batch-size", 12), "data", marks=SLOW),
        pytest.param(("--validation-size", 30), "data", marks=SLOW),
    ],
)
def test_another_recipe_on_one_rank(folder, tmp_path, option, what):
    job = Job(tmp_path, words(folder), words(folder, *option))
    assert_refused(job, f"Ranks: rank 1 has {what} ", "expected the same on all ranks")


def test_other_data_on_one_rank(folder, other, tmp_path):
    job = Job(tmp_path, words(folder), words(other), words(folder), words(folder))
    assert_refused(job, "Ranks: rank 1 has data ", "expected the same on all ranks")


def test_one_rank_without_fused_multiply_add(folder, tmp_path):
    if pycnn.available_isas() == ["baseline"]:
        pytest.skip("this CPU has no fused multiply-add")
    job = Job(tmp_path, words(folder), [*words(folder), {"PYCNN_ISA": "baseline"}])
    assert_refused(job, "rank 1 has fused multiply-add false, and rank 0 has true")


@SLOW
def test_files_that_are_not_there(tmp_path):
    (tmp_path / "empty").mkdir()
    job = Job(tmp_path, words("empty"), ranks=2)
    assert_refused(job, "empty", code=1)


def test_without_mpi4py_the_command_names_the_extra(folder, tmp_path):
    """A single process: without mpi4py nobody knows of other ranks."""
    (tmp_path / "mpi4py.py").write_text("raise ModuleNotFoundError(name='mpi4py')\n")
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(tmp_path), *PLACES])}
    run = subprocess.run(
        [sys.executable, *words(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr.startswith("pycnn.train: --mpi needs ")
    assert "pycnn[mpi]" in run.stderr
    assert len(run.stderr.splitlines()) == 1


# ---- it breaks off -----------------------------------------------------------------------------


def running(folder, place, size=4):
    """A job that trains and has saved; it would go on for hours."""
    more = ("--epochs", 10**6, "--log-interval", 1, "--checkpoint-dir", "run", "--save-every", 1)
    return Job(place, words(folder, *more), ranks=size).wait_for("step = 5")


def assert_goes_on(folder, place, size=2):
    """Another number of ranks ends the epoch with the bytes of one process that nobody stopped."""
    metadata = checkpoint.read(place / "run" / "last.safetensors")[1]
    assert metadata["position"]["steps_done"] >= 4
    epochs = metadata["position"]["epoch"] + 1
    more = ("--epochs", epochs, "--slots", 8, "--checkpoint-dir", place / "whole", "--quiet")
    run = command(*small(folder, *more))
    assert run.returncode == 0, run.stderr
    again = ["--resume", "run", "--data-dir", folder, "--epochs", str(epochs), "--quiet"]
    job = Job(place, ["-m", "pycnn.train", "--mpi", *again], ranks=size)
    assert job.end() == 0, job.err
    parts, whole = (place / name / "last.safetensors" for name in ("run", "whole"))
    assert parts.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("number", "who"),
    [
        (signal.SIGTERM, 1),
        *(
            pytest.param(number, who, marks=SLOW)
            for number in (signal.SIGINT, signal.SIGTERM)
            for who in (0, 1, "mpiexec")
            if (number, who) != (signal.SIGTERM, 1)
        ),
    ],
)
def test_a_signal_saves_and_ends_all(folder, tmp_path, number, who):
    job = running(folder, tmp_path)
    os.kill(job.process.pid if who == "mpiexec" else job.pid(who), number)
    assert job.end(LIMIT) == 128 + number
    (sentence,) = job.sentences
    assert sentence.startswith(f"pycnn.train: stopped by {number.name}; ")
    assert sentence.endswith("; --resume run goes on.")
    assert "RESULT" not in job.out
    if who != 0:
        assert_goes_on(folder, tmp_path)


@pytest.mark.parametrize("rank", [pytest.param(0, marks=SLOW), 3])
def test_a_killed_rank_ends_all(folder, tmp_path, rank):
    job = running(folder, tmp_path)
    os.kill(job.pid(rank), signal.SIGKILL)
    assert job.end(LIMIT) != 0
    assert not job.sentences  # the dead say nothing, mpiexec tells of them
    assert_goes_on(folder, tmp_path, size=2 if rank else 8)


FULL = """\
import resource, sys
from pycnn import callbacks, train

def full(self, trainer, path, save=callbacks.Checkpoint._save):
    if trainer.steps_done == 5:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        print("now", flush=True)
    save(self, trainer, path)

callbacks.Checkpoint._save = full
sys.exit(train.main(sys.argv[1:]))
"""


def test_a_full_disk_on_rank_0_ends_all(folder, tmp_path):
    more = ("--epochs", 10**6, "--checkpoint-dir", "run", "--save-every", 1)
    job = Job(tmp_path, ["-c", FULL, *words(folder, *more)[2:]], ranks=4).wait_for("now")
    assert job.end(LIMIT) in (1, KILLED)
    (sentence,) = job.sentences
    assert sentence.startswith("pycnn.train: run/last.safetensors: cannot write: the disk is full")
    assert sorted(os.listdir(tmp_path / "run")) == [".lock", "last.safetensors", "log.jsonl"]
    assert_goes_on(folder, tmp_path)


@SLOW
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_behind_the_log_ends_all(folder, tmp_path):
    job = Job(tmp_path, words(folder, "--epochs", 9, "--json-log", "/dev/full"), ranks=4)
    assert_refused(job, "/dev/full: cannot be written: No space left on device", code=1)


@SLOW
def test_a_run_that_diverges_ends_all(folder, tmp_path):
    job = Job(tmp_path, words(folder, "--epochs", 99, "--lr", "1e30"), ranks=4)
    assert_refused(job, "pycnn.train: diverged: ", code=3)


OWN = """\
import sys
from mpi4py import MPI
sys.path.insert(0, {here!r})
from trainer_cases import make_data, make_trainer
import pycnn

class Fails(pycnn.callbacks.Callback):
    def on_step_end(self, trainer):
        if trainer.steps_done == 3 and trainer.ranks.rank == 2:
            print("now", flush=True)
            {act}

make_trainer(Fails(), communicator=MPI.COMM_WORLD, slots=4).fit(
    make_data(40), make_data(9), epochs=10**6, batch_size=10
)
"""


@pytest.mark.parametrize(
    ("act", "said"),
    [
        ("1 / 0", "ZeroDivisionError"),
        pytest.param("raise KeyboardInterrupt", "KeyboardInterrupt", marks=SLOW),
    ],
)
def test_an_error_of_a_program_on_one_rank_ends_all(tmp_path, act, said):
    job = Job(tmp_path, ["-c", OWN.format(here=HERE, act=act)], ranks=4).wait_for("now")
    assert job.end(LIMIT) in (1, KILLED)
    assert job.err.count("Traceback") == 1
    assert said in job.err
