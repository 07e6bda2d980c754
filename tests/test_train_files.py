"""The files that `python -m pycnn.train` reads and writes, and what it says about wrong ones."""

import json
import os
import shutil
import sys

import pytest
from idx_files import write_folder
from train_command import command, small

import pycnn
from pycnn import checkpoint, layers, optim, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data"), train=120, test=40)


# Batch normalisation of one number, which a step alone can refuse.
HE = ["--set", "init=he"]
BATCHES_OF_ONE = ["--batch-size", 1, "--set", "batch_norm=true", "--set", "init=he",
                  "--set", "channels=[2,2,2,2,2]", "--set", "convolutions=[1,1,1,1,1]"]  # fmt: skip


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """run(*options) -> (code, stdout, stderr), in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*options):
        try:
            code = train.main([str(option) for option in options])
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return call


def result_of(out):
    return json.loads(out.splitlines()[-1].removeprefix("RESULT "))


def test_a_saved_model_and_a_checkpoint_are_evaluated(folder, run, tmp_path):
    options = small(folder, "--recipe", "fast", "--set", "ema=0.5", "--epochs", 2)
    files = ["--save-model", "model", "--checkpoint-dir", "runs", "--json-log", "log"]
    code, out, err = run(*options, *files)
    assert (code, err) == (0, "")
    accuracy = result_of(out)["test_accuracy"]
    assert (tmp_path / "log").read_bytes() == (tmp_path / "runs" / "log.jsonl").read_bytes()
    assert sorted(os.listdir("runs")) == [
        ".lock", "best.safetensors", "last.safetensors", "log.jsonl",
    ]  # fmt: skip
    for file in ("model", "runs/last.safetensors"):
        code, out, err = run("--eval", file, "--data-dir", folder)
        assert (code, err) == (0, "")
        assert f"Accuracy = {accuracy:.4f}" in out
        assert result_of(out)["test_accuracy"] == accuracy
        assert set(result_of(out)) == {"test_accuracy", "test_loss", "elapsed_s"}
    run("--resume", "runs", "--epochs", 2, "--data-dir", folder, "--save-model", "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()


def test_resume_of_a_file_saves_beside_it(folder, run):
    run(*small(folder, "--epochs", 1, "--checkpoint-dir", "runs"))
    code, out, _ = run("--resume", "runs/last.safetensors", "--data-dir", folder, "--epochs", 2)
    assert code == 0
    assert "goes on after epoch 1, step 0 of runs/last.safetensors" in out
    assert checkpoint.read("runs/last.safetensors")[1]["position"]["epoch"] == 2


def test_resume_into_another_folder(folder, run):
    run(*small(folder, "--epochs", 1, "--checkpoint-dir", "runs"))
    before = open_bytes("runs/last.safetensors")
    again = ["--resume", "runs", "--data-dir", folder, "--epochs", 2, "--checkpoint-dir", "new"]
    assert run(*again)[0] == 0
    assert open_bytes("runs/last.safetensors") == before
    assert sorted(os.listdir("new")) == sorted(os.listdir("runs"))
    run(*small(folder, "--epochs", 1, "--seed", 2, "--checkpoint-dir", "used"))
    before = open_bytes("used/last.safetensors")
    code, _, err = run(*again[:-1], "used")
    assert code == 1
    assert "used: found checkpoints of another run" in err
    assert open_bytes("used/last.safetensors") == before


def all_bytes(folder):
    return {name: open_bytes(f"{folder}/{name}") for name in os.listdir(folder) if name != ".lock"}


def test_a_checkpoint_moved_beside_those_of_another_run(folder, run):
    run(*small(folder, "--epochs", 1, "--checkpoint-dir", "runs"))
    run(*small(folder, "--epochs", 1, "--seed", 2, "--checkpoint-dir", "used"))
    shutil.copy("runs/last.safetensors", "used/other.safetensors")
    before = all_bytes("used")
    again = ["--resume", "used/other.safetensors", "--data-dir", folder, "--epochs", 2]
    code, _, err = run(*again)
    assert code == 1
    assert "used: found checkpoints of another run than used/other.safetensors; expected an" in err
    assert all_bytes("used") == before
    assert run(*again, "--checkpoint-dir", "new")[0] == 0
    assert all_bytes("used") == before


def test_the_log_of_another_program_stays(folder, run):
    run(*small(folder, "--epochs", 1, "--checkpoint-dir", "runs"))
    os.mkdir("used")
    shutil.copy("runs/last.safetensors", "used/ck.safetensors")
    with open("used/log.jsonl", "w") as file:
        file.write('{"kind": "step", "of": "another program"}\n')
    before = all_bytes("used")
    for options in (
        small(folder, "--epochs", 1, "--checkpoint-dir", "used"),
        ("--resume", "used/ck.safetensors", "--data-dir", folder, "--epochs", 2),
    ):
        code, _, err = run(*options)
        assert code == 1
        assert "used/log.jsonl: line 1 is not one of JsonLog; expected no file, or the log" in err
        assert all_bytes("used") == before


def open_bytes(path):
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--lr", 0.5], 2, "--resume with another lr: a resumed run has the settings of its"),
        (["--seed", 9, "--set", "ema=0.5"], 2, "--resume with another ema, seed"),
        (["--recipe", "fast"], 2, "--recipe with --resume: a resumed run has the recipe of its"),
        (["--config", "x"], 2, "--config with --resume"),
        (["--test-batch-size", 3], 2, "--resume with another --test-batch-size: that of the"),
        (["--save-model", "runs/last.safetensors"], 2, "is a checkpoint; expected another file"),
        (["--lr", 0.001, "--epochs", 1], 0, ""),
    ],
)
def test_what_may_change_in_a_resumed_run(folder, run, options, code, words):
    run(*small(folder, "--epochs", 1, "--checkpoint-dir", "runs"))
    before = open_bytes("runs/last.safetensors")
    found, _, err = run("--resume", "runs", "--data-dir", folder, *options)
    assert found == code
    assert words in err
    assert err.count("\n") == (code > 0)
    assert open_bytes("runs/last.safetensors") == before


def test_other_data_than_the_run_began_with(folder, run, tmp_path):
    run(*small(folder, "--epochs", 1, "--checkpoint-dir", "runs"))
    other = write_folder(tmp_path / "other", train=120, test=40, seed=1)
    code, _, err = run("--resume", "runs", "--data-dir", other, "--epochs", 2)
    assert code == 1
    assert "the run began with other data: give --data-dir again, as it was" in err
    assert "got other samples or labels, 100 training samples in batches of 10; expected" in err


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--config", "folder"], 2, "folder: cannot be read: Is a directory"),
        (["--config", "no"], 2, "no: cannot be read: No such file or directory"),
        (["--config", "/dev/zero"], 2, "/dev/zero: this is no regular file; expected a TOML file"),
        (["--config", "long"], 2, "long: this is longer than 1,000,000 bytes; expected a TOML"),
        (["--set", "first_kernel_size=57", *HE], 2, "is 57; expected at most 56, twice the 28"),
        (["--set", "channels=[4097]"], 2, "channels is (4097,); expected at most 4096"),
        (["--set", "convolutions=[101]"], 2, "convolutions is (101,); expected at most 100"),
        (["--report", "/proc/x.html"], 1, "the folder /proc takes no new files"),
        (["--save-model", "/proc/x"], 1, "the folder /proc takes no new files"),
        (["--config", "binary"], 2, "binary: is not TOML: "),
        (["--config", "typo"], 2, "there is no setting 'epohs'; did you mean epochs?"),
        (["--config", ""], 2, "'' is not the name of a file or folder"),
        (["--set", "epohs=3"], 2, "did you mean epochs?"),
        (["--set", "epochs"], 2, "'epochs' is no setting; expected NAME=VALUE"),
        (["--set", "channels=[1000]", "--set", "convolutions=[1]"], 2, 'init is "lecture"'),
        (["--schedule", "plateau", "--validation-size", 0], 2, "no images for the schedule plat"),
        (["--target-accuracy", 1, "--validation-size", 0], 2, "no images for --target-accuracy"),
        (["--target-accuracy", 99], 2, "'99' is not an accuracy; expected a number above 0, at"),
        (["--time-limit", 0], 2, "'0' is not a time"),
        (["--gamma", 2], 2, "'2' is not a factor; expected a number above 0, at most 1"),
        (["--optimizer", "adm"], 2, "invalid choice: 'adm'"),
        (["--save-model", "folder"], 1, "folder: cannot write: this is a folder"),
        (["--save-model", "no/model"], 1, "cannot write: there is no folder"),
        (["--save-model", "a" * 5000], 1, "cannot write: File name too long"),
        (["--save-model", "x", "--json-log", "x"], 2, "x is the file of --save-model already"),
        (["--save-model", "r/log.jsonl", "--checkpoint-dir", "r"], 2, "the log of --checkpoint-d"),
        (
            ["--save-model", "r/.lock", "--checkpoint-dir", "r"],
            2,
            "is the lock of --checkpoint-dir",
        ),
        (["--plot", "x.gif"], 2, "argument --plot: 'x.gif' is no .png or .svg"),
        (BATCHES_OF_ONE, 2, "BatchNorm2d"),
        (["--json-log", "folder"], 1, "folder: cannot be written: Is a directory"),
        (["--json-log", "no/log"], 1, "no/log: cannot be written: No such file or directory"),
        (["--json-log", "/dev/full"], 1, "cannot be written: No space left on device"),
        (["--checkpoint-dir", "file"], 1, "file: cannot be used for checkpoints: File exists"),
        (["--checkpoint-dir", "file/x"], 1, "cannot be used for checkpoints: Not a directory"),
        (["--checkpoint-dir", ""], 2, "'' is not the name of a file or folder"),
        (["--resume", "no"], 1, "no: found no checkpoint; expected a file, or a folder with"),
        (["--resume", "folder"], 1, "begins anew, without --resume"),
        (["--resume", "file"], 1, "file: the file is empty"),
        (["--resume", "a" * 5000], 1, "cannot be read: File name too long"),
        (["--resume", "model"], 1, "found a model's file, without the state of its training"),
        (["--resume", "library"], 1, "found a checkpoint without a recipe"),
        (["--resume", "no", "--dry-run"], 2, "--dry-run with --resume: a dry run saves nothing"),
        (["--eval", "no"], 2, "with --eval, which only evaluates; leave it out"),
    ],
)
def test_wrong_files_and_values_are_one_sentence(folder, run, tmp_path, options, code, words):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "long").write_bytes(b"#" * 1_000_001)
    (tmp_path / "typo").write_text("epohs = 3\n")
    model = layers.Sequential(layers.Flatten(), layers.Linear(12, 10))
    pycnn.save_model(model, tmp_path / "model")
    trainer = pycnn.Trainer(model, optim.SGD(model.parameters(), 0.1))
    checkpoint.save(trainer, tmp_path / "library")
    before = sorted(os.listdir())
    found, out, err = run(*small(folder, "--epochs", 1), *options)
    assert found == code, err
    assert words in err
    assert err.count("\n") == 1
    assert "RESULT" not in out
    assert sorted(os.listdir()) == before


def test_without_matplotlib_the_extra_is_named(folder, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    words = "drawing pictures needs matplotlib, which is not installed: pip install 'pycnn[plot]'."
    for options in (("--plot", "a.png"), ("--report", "a.html")):
        code, out, err = run(*small(folder), *options)
        assert (code, out, err) == (1, "", f"pycnn.train: {words}\n")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["no"], 1, "no: cannot read: No such file or directory"),
        (["folder"], 1, "folder: this is a folder; expected a safetensors file"),
        (
            ["runs"],
            1,
            "runs: this is a folder; expected a file, for example runs/best.safetensors.",
        ),
        (["file"], 1, "file: the file is empty"),
        (["model"], 1, "model: the model does not fit the images: "),
        (["model", "--config", "x"], 2, "--config with --eval, which only evaluates; leave it out"),
        (["model", "--recipe", "fast"], 2, "--recipe with --eval"),
        (["model", "--resume", "x"], 2, "--resume with --eval"),
        (["model", "--plot", "x.png"], 2, "--plot with --eval"),
        (["model", "--report", "x"], 2, "--report with --eval"),
        (["model", "--save-model", "x"], 2, "--save-model with --eval"),
        (["model", "--checkpoint-dir", "x"], 2, "--checkpoint-dir with --eval"),
        (["model", "--epochs", 30], 2, "--epochs with --eval"),
    ],
)
def test_what_eval_refuses(folder, run, tmp_path, options, code, words):
    for name in ("folder", "runs"):
        (tmp_path / name).mkdir()
    for name in ("file", "runs/best.safetensors"):
        (tmp_path / name).write_text("")
    model = layers.Sequential(layers.Flatten(), layers.Linear(12, 10))
    pycnn.save_model(model, tmp_path / "model")
    found, out, err = run("--data-dir", folder, "--eval", *options)
    assert found == code, err
    assert words in err
    assert err.count("\n") == 1
    assert "RESULT" not in out


def test_a_dry_run_writes_no_checkpoint(folder, run, tmp_path):
    assert run(*small(folder, "--dry-run"), "--checkpoint-dir", "runs")[0] == 0
    assert not (tmp_path / "runs").exists()


def test_a_resumed_run_with_nothing_to_do_says_so(folder, run):
    run(*small(folder, "--epochs", 2, "--checkpoint-dir", "runs"))
    _, out, _ = run("--resume", "runs", "--data-dir", folder, "--epochs", 1)
    assert "nothing to do: 2 epochs were done before, --epochs is 1\n" in out


def test_a_model_may_go_into_the_new_folder_of_checkpoints(folder, run):
    code, _, err = run(
        *small(folder, "--epochs", 1), "--checkpoint-dir", "runs", "--save-model", "runs/model"
    )
    assert (code, err) == (0, "")
    assert pycnn.load_model("runs/model").output_shape((1, 28, 28, 1)) == (1, 10)


def test_the_log_of_checkpoints_may_be_named_twice(folder, run):
    log = "runs/log.jsonl"
    code, _, _ = run(*small(folder, "--epochs", 1), "--checkpoint-dir", "runs", "--json-log", log)
    assert code == 0
    kinds = [json.loads(line)["kind"] for line in open_bytes(log).splitlines()]
    assert kinds == ["step", "epoch", "end"]


def test_a_second_process_in_one_folder(folder, tmp_path, run):
    class Second(pycnn.callbacks.Callback):
        def on_step_end(self, trainer):
            if trainer.steps_done == 1:
                other = command(*small(folder), "--checkpoint-dir", tmp_path / "runs")
                assert other.returncode == 1
                assert "another run that has not ended writes its checkpoints here" in other.stderr

    make = train.make_trainer
    with pytest.MonkeyPatch.context() as patch:

        def make_both(*arguments):
            trainer = make(*arguments)
            trainer.callbacks.insert(0, Second())
            return trainer

        patch.setattr(train, "make_trainer", make_both)
        assert run(*small(folder, "--epochs", 1), "--checkpoint-dir", tmp_path / "runs")[0] == 0
