"""1, 2, 4 or 8 ranks of mpiexec end with the bytes of one process: weights, optimizer, History."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import _pycnn
import pytest
from idx_files import write_folder
from mpi_jobs import KILLED, Job, needs_mpi
from train_command import ENVIRONMENT, command, small

import pycnn

pytestmark = needs_mpi

PROGRAM = Path(__file__).with_name("ranks_program.py")
NETWORKS = "lecture,fast,best,resnet20"
WITH_FMA = [name for name in pycnn.available_isas() if name != "baseline"]
BASELINE = pytest.mark.skipif(not WITH_FMA, reason="this CPU has no fused multiply-add")


def sums_of(process_out):
    """{network: the check sum of its run}; all runs must have the same."""
    found = json.loads(process_out)
    by_network = {}
    for name, total in found["sums"].items():
        by_network.setdefault(name.rpartition(" ")[2], set()).add(total)
    assert all(len(totals) == 1 for totals in by_network.values()), found
    return {name: totals.pop() for name, totals in by_network.items()}, found["isas"]


def one_process(*words, **variables):
    run = subprocess.run(
        [sys.executable, PROGRAM, *words],
        env={**ENVIRONMENT, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return sums_of(run.stdout)[0]


def on_ranks(folder, size, *words, **variables):
    job = Job(folder, [PROGRAM, *words], ranks=size, **variables)
    assert job.end() == 0, job.err
    return sums_of(job.out)[0]


def all_runs(*isas):
    return [f"{threads} {isa}" for threads in (1, 2) for isa in isas]


@pytest.fixture(scope="module")
def few_steps():
    return one_process("4", NETWORKS, "1 as-it-is")


def test_two_ranks_of_other_instruction_sets(tmp_path, few_steps):
    """PYCNN_ISA is set for each rank, and threads differ."""
    names = [WITH_FMA[0], WITH_FMA[-1]] if WITH_FMA else ["baseline"] * 2
    words = [PROGRAM, "4", NETWORKS, "1 as-it-is"]
    job = Job(tmp_path, *([*words, {"PYCNN_ISA": name}] for name in names))
    assert job.end() == 0, job.err
    assert sums_of(job.out) == (few_steps, names)


@pytest.mark.slow
def test_sums_of_mpi_itself_depend_on_the_ranks(tmp_path, few_steps):
    """So the comparison of the other tests can fail."""
    variables = {"PYCNN_TEST_MPI_SUM": "1"}
    words = "4", "lecture,resnet20", "1 as-it-is"
    four = on_ranks(tmp_path, 4, *words, **variables)
    one = one_process(*words, **variables)
    for name in ("lecture", "resnet20"):
        assert four[name] != one[name]
        assert one[name] != few_steps[name]


@BASELINE
@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_each_number_of_ranks_threads_and_instruction_sets(tmp_path, few_steps, size):
    assert one_process("4", NETWORKS, *all_runs(*WITH_FMA)) == few_steps
    runs = all_runs(*WITH_FMA, "mixed")
    assert on_ranks(tmp_path, size, "4", NETWORKS, *runs) == few_steps


@BASELINE
@pytest.mark.slow
def test_sixty_steps(tmp_path):
    expected = one_process("60", NETWORKS, f"1 {WITH_FMA[-1]}", f"2 {WITH_FMA[0]}")
    for size in (1, 2, 4, 8):
        assert on_ranks(tmp_path, size, "60", NETWORKS, "1 mixed") == expected, size


# ---- checkpoints -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data"), train=64, test=20)


def options(folder, *more):
    """All that has a state; what an epoch does must not depend on the number of epochs."""
    settings = ("schedule=constant", "warmup=0", "plain_epochs=0")
    given = ("--recipe", "best", "--quiet", *(w for name in settings for w in ("--set", name)))
    return ["-m", "pycnn.train", *map(str, small(folder, *given, *more))]


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """Two epochs of one process with slots."""
    whole = tmp_path_factory.mktemp("whole") / "run"
    lengths = ("--epochs", 2, "--slots", 8, "--checkpoint-dir", whole)
    run = command(*options(folder, *lengths)[2:], "--save-model", whole / "model.safetensors")
    assert run.returncode == 0, run.stderr
    return whole


def assert_equal_files(folder, other, *names):
    for name in ("last.safetensors", *names):
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name


def resume(begun, folder, place, size):
    """Two epochs, of which 4 ranks have done one, on so many ranks, or without MPI."""
    parts = place / "parts"
    shutil.copytree(begun, parts)
    words = ["--resume", str(parts), "--data-dir", str(folder), "--epochs", "2", "--quiet"]
    if size is None:
        run = command(*words)
        assert run.returncode == 0, run.stderr
    else:
        job = Job(place, ["-m", "pycnn.train", "--mpi", *words], ranks=size)
        assert job.end() == 0, job.err
        assert job.out.startswith("RESULT {")
        assert job.out.count("\n") == 1
    return parts


@pytest.fixture(scope="module")
def begun(folder, tmp_path_factory):
    """One epoch of four ranks."""
    place = tmp_path_factory.mktemp("begun")
    lengths = ("--epochs", 1, "--mpi", "--checkpoint-dir", "run")
    assert Job(place, options(folder, *lengths), ranks=4).end() == 0
    return place / "run"


def test_files_of_four_ranks_are_those_of_one_process(folder, whole, tmp_path):
    lengths = ("--epochs", 2, "--mpi", "--checkpoint-dir", "run")
    job = Job(tmp_path, options(folder, *lengths, "--save-model", "run/model.safetensors"), ranks=4)
    assert job.end() == 0, job.err
    assert_equal_files(whole, tmp_path / "run", "best.safetensors", "model.safetensors")
    assert sorted(os.listdir(tmp_path / "run")) == sorted(os.listdir(whole))


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, 1, 2, 8])
def test_a_run_of_four_ranks_goes_on_anywhere(begun, folder, whole, tmp_path, size):
    """best may be of the first epoch, and then names the epochs that run was to have."""
    assert_equal_files(whole, resume(begun, folder, tmp_path, size))


@pytest.mark.slow
def test_a_run_without_slots_does_not_go_on_on_ranks(folder, tmp_path):
    plain = tmp_path / "plain"
    run = command(*options(folder, "--epochs", 1, "--checkpoint-dir", plain)[2:])
    assert run.returncode == 0, run.stderr
    words = ["-m", "pycnn.train", "--mpi", "--resume", plain, "--data-dir", folder]
    job = Job(tmp_path, words, ranks=2)
    assert job.end() in (2, KILLED)
    (sentence,) = job.sentences
    assert "the checkpoint is of a run without slots" in sentence
    assert "begun with --slots or --mpi" in sentence


# ---- threads -----------------------------------------------------------------------------------

CONFIG = """\
import sys
from mpi4py import MPI
import pycnn
ranks = pycnn.ranks.Ranks(MPI.COMM_WORLD, 2)
for line in MPI.COMM_WORLD.allgather(pycnn.show_config()):
    if ranks.rank == 0:
        print(next(part for part in line.splitlines() if part.startswith("threads")))
"""


def test_ranks_share_the_cores(tmp_path):
    names = ("PYCNN_NUM_THREADS", "OMP_NUM_THREADS")
    unset = dict.fromkeys(names, "")
    job = Job(tmp_path, ["-c", CONFIG], ranks=2, **unset)
    assert job.end() == 0, job.err
    each = max(1, _pycnn.available_cpus() // 2)
    assert job.out == f"threads: {each} in each of 2 ranks of this machine\n" * 2
    job = Job(tmp_path, ["-c", CONFIG], ranks=2, **{**unset, names[1]: "3"})
    assert job.end() == 0, job.err
    assert job.out == "threads: 3 in each of 2 ranks of this machine\n" * 2


@pytest.mark.slow
def test_the_option_threads_wins(folder, tmp_path):
    words = [w for w in options(folder, "--dry-run", "--mpi", "--threads", 3) if w != "--quiet"]
    job = Job(tmp_path, words, ranks=2)
    assert job.end() == 0, job.err
    (line,) = [line for line in job.out.splitlines() if line.endswith("thread(s)")]
    assert line.endswith(", 3 thread(s)")
    assert job.out.count("RESULT {") == 1
