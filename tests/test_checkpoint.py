"""Checkpoints: bit for bit, the same bytes, and sentences that leave everything as it was."""

import json
import os
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
import safetensors
from train_command import ENVIRONMENT
from trainer_cases import StopAt, bits, make_data, make_model, make_trainer

import pycnn
from pycnn import callbacks, checkpoint, optim
from pycnn._formats import temporary
from pycnn.augment import Augmentation

TRAIN, VALIDATION = make_data(), make_data(13, seed=1)
OPTIONS = {"augmentation": Augmentation(shift=1.0, mixup=0.5), "clip_norm": 2.0}
OPTIMIZERS = {
    "momentum": lambda parameters: optim.SGD(parameters, 0.05, momentum=0.9),
    "adamw": lambda parameters: optim.AdamW(parameters, 0.02),
    "rmsprop": lambda parameters: optim.RMSprop(parameters, 0.005, momentum=0.5),
}


def fit(trainer, epochs=4):
    trainer.fit(TRAIN, VALIDATION, epochs=epochs, batch_size=12)
    return trainer


def stopped_at(step, folder, *more, **options):
    stock = [callbacks.Checkpoint(folder), StopAt(step), *more]
    return fit(make_trainer(*stock, **{**OPTIONS, **options}))


def resumed(path, folder, **options):
    trainer = make_trainer(callbacks.Checkpoint(folder), **{**OPTIONS, **options})
    checkpoint.load(trainer, path)
    return trainer


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("step", [1, 4, 6, 9, 11], ids=str)
def test_a_resumed_run_ends_with_the_same_bytes(tmp_path, optimizer, step):
    """Mid-epoch and at an epoch's end; with Ema, Dropout, BatchNorm, a plateau, augmentation."""
    options = {"optimizer": OPTIMIZERS[optimizer]}
    whole = fit(make_trainer(callbacks.Checkpoint(tmp_path / "whole"), **OPTIONS, **options))
    stopped_at(step, tmp_path / "parts", **options)
    trainer = resumed(tmp_path / "parts" / "last.safetensors", tmp_path / "parts", **options)
    assert trainer.steps_done == step
    with pycnn.num_threads(3):
        fit(trainer)
    assert bits(trainer) == bits(whole)
    assert trainer.history.rows == whole.history.rows
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_early_stopping_comes_back_with_its_weights(tmp_path):
    """Although Checkpoint stands before it in the list."""

    def run(folder, step=0):
        stopper = callbacks.EarlyStopping(2, "loss", min_delta=9.0, restore_best=True)
        trainer = make_trainer(callbacks.Checkpoint(folder), stopper, StopAt(step), ema=False)
        if (folder / "last.safetensors").exists():
            checkpoint.load(trainer, folder / "last.safetensors")
        return fit(trainer)

    whole = run(tmp_path / "whole")
    assert whole.epoch == 3
    run(tmp_path / "parts", 5)
    parts = run(tmp_path / "parts")
    assert parts.stop_reason == whole.stop_reason
    assert bits(parts) == bits(whole)
    assert bits(run(tmp_path / "parts"))  # after its end nothing is trained
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_two_processes_write_the_same_bytes(tmp_path):
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "import test_checkpoint\n"
        "test_checkpoint.stopped_at(5, Path(sys.argv[2]))\n"
    )
    for i, seed in enumerate(("1", "2")):
        subprocess.run(
            [sys.executable, "-c", program, os.path.dirname(__file__), str(tmp_path / str(i))],
            env={**ENVIRONMENT, "PYTHONHASHSEED": seed, "PYCNN_NUM_THREADS": seed},
            check=True,
        )
    first = contents(tmp_path / "0")
    assert set(first) == {"last.safetensors", "best.safetensors"}
    assert contents(tmp_path / "1") == first


def test_best_is_the_state_after_the_best_epoch(tmp_path):
    trainer = fit(make_trainer(callbacks.Checkpoint(tmp_path), **OPTIONS))
    accuracies = trainer.history["val_accuracy"]
    _, metadata = checkpoint.read(tmp_path / "best.safetensors")
    assert metadata["position"]["epoch"] == accuracies.index(max(accuracies)) + 1
    model = pycnn.load_model(tmp_path / "best.safetensors")  # the average
    best = pycnn.Trainer(model, optim.SGD(model.parameters(), 1.0))
    assert best.evaluate(VALIDATION)["accuracy"] == max(accuracies)


def test_every_so_many_steps(tmp_path):
    steps = []

    class Look(callbacks.Callback):
        def on_step_end(self, trainer):
            path = tmp_path / "last.safetensors"
            steps.append(path.exists() and checkpoint.read(path)[1]["position"]["steps_done"])

    fit(make_trainer(callbacks.Checkpoint(tmp_path, every=2), Look()), epochs=2)
    assert steps == [False, False, 2, 3, 4, 4]  # it looks before the save


@pytest.fixture
def used(tmp_path):
    """A folder with a checkpoint after step 5."""
    stopped_at(5, tmp_path / "used")
    return tmp_path / "used"


@pytest.mark.parametrize("length", [0, 5, 200, 3000, -1])
def test_truncated_checkpoints(used, length):
    path = used / "last.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(pycnn.FileError, match=f"{path}: "):
        checkpoint.load(make_trainer(callbacks.Checkpoint(used)), path)


def test_a_model_is_no_checkpoint(tmp_path):
    pycnn.save_model(make_model(), tmp_path / "model")
    with pytest.raises(pycnn.FileError, match="found a model's file, without the state of its tr"):
        checkpoint.load(make_trainer(), tmp_path / "model")
    with pytest.raises(pycnn.FileError, match="found no checkpoint; expected a file, or a folder"):
        checkpoint.checkpoint_in(tmp_path)
    with pytest.raises(pycnn.FileError, match="File name too long"):
        checkpoint.checkpoint_in("a" * 5000)


def test_a_used_folder_is_refused(used, tmp_path):
    files = contents(used)
    with pytest.raises(pycnn.FileError, match="found checkpoints of another run; expected an em"):
        stopped_at(1, used)
    stopped_at(2, tmp_path / "other")
    trainer = resumed(tmp_path / "other" / "last.safetensors", used)
    with pytest.raises(pycnn.FileError, match="found checkpoints of another run"):
        fit(trainer)
    assert contents(used) == files
    trainer = resumed(used / "last.safetensors", tmp_path / "new")  # to a folder of its own
    fit(trainer)
    assert set(contents(tmp_path / "new")) == {"last.safetensors", "best.safetensors"}
    assert contents(used) == files
    fit(trainer, epochs=5)  # and goes on there


def test_the_lock_of_another_process(used):
    program = (
        "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX)\n"
        "print('locked', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(used / ".lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with other:
        assert other.stdout.readline() == "locked\n"
        files = contents(used)
        trainer = resumed(used / "last.safetensors", used)
        with pytest.raises(pycnn.FileError, match="another run that has not ended writes its"):
            fit(trainer)
        assert contents(used) == files
        other.kill()
    fit(trainer)  # the lock has died with its process


def test_two_runs_at_once(tmp_path):
    class Second(callbacks.Callback):
        def on_step_end(self, trainer):
            with pytest.raises(pycnn.FileError, match="another run that has not ended"):
                stopped_at(1, tmp_path)

    stopped_at(1, tmp_path, Second())


def test_leftovers_of_a_killed_writer_are_removed(used, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(temporary, "_boot", lambda: "0123456789ab")  # an earlier start
        (used / temporary.temporary_name()).write_bytes(b"half")
    fit(resumed(used / "last.safetensors", used))
    assert sorted(path.name for path in used.iterdir()) == [
        ".lock", "best.safetensors", "last.safetensors",
    ]  # fmt: skip


def test_a_state_with_nan_is_not_written(used):
    class Poison(callbacks.Callback):
        def on_step_end(self, trainer):
            trainer.model[0].weight.data[0] = np.inf

    files = contents(used)
    trainer = make_trainer(callbacks.Checkpoint(used, every=1), **OPTIONS)
    trainer.callbacks.insert(0, Poison())
    checkpoint.load(trainer, used / "last.safetensors")
    with pytest.raises(callbacks.Diverged, match=r"0.weight holds a NaN .*last.safetensors was no"):
        fit(trainer)
    assert contents(used) == files


def test_a_full_disk(used):
    """The limit on the size of files stands for the disk; the old file stays, no other is left."""
    files, limit = contents(used), resource.getrlimit(resource.RLIMIT_FSIZE)
    trainer = resumed(used / "last.safetensors", used)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        with pytest.raises(
            pycnn.FileError, match=r"safetensors.*(disk is full|limit).*is unchanged"
        ):
            fit(trainer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert contents(used) == files


def test_a_folder_that_vanishes(tmp_path):
    class Remove(callbacks.Callback):
        def on_step_end(self, trainer):
            shutil.rmtree(tmp_path / "runs", ignore_errors=True)

    with pytest.raises(pycnn.FileError, match=r"there is no folder .*runs"):
        stopped_at(2, tmp_path / "runs", Remove())
    (tmp_path / "file").write_text("")
    with pytest.raises(pycnn.FileError, match="file: cannot be used for checkpoints: File exists"):
        stopped_at(2, tmp_path / "file")


def test_the_metadata_is_json_for_other_tools(used):
    with safetensors.safe_open(used / "last.safetensors", "numpy") as file:
        metadata = file.metadata()
        assert "model.0.weight" in file.keys()  # noqa: SIM118
    assert list(metadata) == ["pycnn"]
    assert json.loads(metadata["pycnn"])["position"]["steps_done"] == 5
    assert str(used) not in metadata["pycnn"]
