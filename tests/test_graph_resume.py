"""A run of a residual network that is killed with SIGKILL and resumed ends with the same bytes."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from train_command import ENVIRONMENT

import pycnn

# Trains for 3 epochs of 6 steps; dies by its own SIGKILL after so many steps of this process.
PROGRAM = """
import os, signal, sys
sys.path.insert(0, sys.argv[4])
import numpy as np
from graph_cases import Residual
from pycnn import callbacks, checkpoint, optim, trainer

folder, dies, resumes = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "resume"
rng = np.random.default_rng(0)
images, labels = rng.random((60, 9, 8, 3), np.float32), rng.integers(0, 4, 60)
model = Residual()
save = callbacks.Checkpoint(folder, every=2)
run = trainer.Trainer(model, optim.SGD(model.parameters(), 0.05, momentum=0.9), callbacks=[save])
if resumes:
    checkpoint.load(run, os.path.join(folder, "last.safetensors"))
one, done = run._run_step, 0

def step(*arguments):
    global done
    one(*arguments)
    done += 1
    if done == dies:
        os.kill(os.getpid(), signal.SIGKILL)

run._run_step = step
run.fit((images, labels), (images[:20], labels[:20]), epochs=3, batch_size=10)
"""


def run(folder, dies=0, resumes=False, threads=1):
    arguments = [folder, dies, "resume" if resumes else "new", Path(__file__).parent]
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        env={**ENVIRONMENT, "PYCNN_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    whole = run(folder)
    assert whole.returncode == 0, whole.stderr
    return (folder / "last.safetensors").read_bytes()


@pytest.mark.parametrize(
    "dies", [3, 7, *(pytest.param(step, marks=pytest.mark.slow) for step in (6, 13, 17))]
)
def test_a_killed_run_goes_on_to_the_same_bytes(dies, expected, tmp_path):
    killed = run(tmp_path, dies)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = run(tmp_path, resumes=True, threads=2)
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / "last.safetensors").read_bytes() == expected


def test_the_checkpoint_is_a_model_without_its_class(expected, tmp_path):
    path = tmp_path / "c.safetensors"
    path.write_bytes(expected)
    model = pycnn.load_model(path)
    assert type(model).__name__ == "Graph"
    assert "blocks.1.shortcut.0.weight" in model.state_dict()
