"""`python -m pycnn.train` as a person or a script sees it."""

import contextlib
import fcntl
import json
import os
import re
import struct
import subprocess
import termios

import pytest
from idx_files import write_folder
from train_command import COMMAND, ENVIRONMENT, command, small


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data"), train=120, test=40)


def result_of(run):
    last = run.stdout.splitlines()[-1]
    assert last.startswith("RESULT {")
    return json.loads(last.removeprefix("RESULT "))


def test_the_lines_of_a_run(folder, tmp_path):
    run = command(*small(folder, "--epochs", 2, "--log-interval", 5), cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""  # no progress bar, since nobody watches
    lines = run.stdout.splitlines()
    assert lines[0] == "100 40 20"
    losses = re.findall(r"^epochs = (\d+), step = (\d+), loss_val = \d+\.\d+$", run.stdout, re.M)
    assert losses == [("0", "0"), ("0", "5"), ("1", "0"), ("1", "5")]
    validation = re.findall(r"^epochs = (\d+), validation accuracy = [01]\.\d+$", run.stdout, re.M)
    assert validation == ["0", "1"]
    assert re.search(r"^elapsed time = \d+\.\d+ s$", run.stdout, re.M)
    accuracy = re.search(r"^Accuracy = ([01]\.\d+)$", run.stdout, re.M)
    assert accuracy
    result = result_of(run)
    assert set(result) == {"test_accuracy", "elapsed_s", "epochs", "steps", "images_per_s"}
    assert (result["epochs"], result["steps"]) == (2, 20)
    assert result["test_accuracy"] == pytest.approx(float(accuracy[1]), abs=1e-4)
    assert result["images_per_s"] > 0
    assert list(tmp_path.iterdir()) == []  # nothing is written


def test_it_learns(folder):
    run = command(*small(folder, "--epochs", 40, "--lr", "0.003", "--quiet"))
    assert run.returncode == 0, run.stderr
    assert result_of(run)["test_accuracy"] > 0.8  # guessing gives 0.1


@pytest.mark.slow
def test_the_real_digits_improve_within_a_few_steps():
    run = command(
        "--epochs", 1, "--limit-train", 8000, "--log-interval", 79, "--validation-size", 0
    )
    assert run.returncode == 0, run.stderr
    losses = [float(x) for x in re.findall(r"loss_val = (\S+)", run.stdout)]
    assert len(losses) == 2
    assert losses[1] < losses[0]
    assert "validation" not in run.stdout


def test_the_same_seed_gives_the_same_run_on_any_thread_count(folder):
    def lines(*options):
        run = command(*small(folder, "--epochs", 1, "--log-interval", 1, *options))
        return [line for line in run.stdout.splitlines() if line.startswith("epochs")]

    first = lines("--seed", 3, "--threads", 1)
    assert len(first) == 11
    assert lines("--seed", 3, "--threads", 2) == first
    assert lines("--seed", 4, "--threads", 1) != first


def test_quiet_prints_the_result_alone(folder):
    run = command(*small(folder, "--epochs", 1, "--quiet"))
    assert run.returncode == 0
    assert len(run.stdout.splitlines()) == 1
    assert run.stderr == ""
    result_of(run)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--epochs", 0], "'0' is not a number of epochs; expected a whole number, 1 or more"),
        (["--epochs", "many"], "'many' is not a number of epochs"),
        (["--batch-size", -5], "'-5' is not a batch size"),
        (["--lr", "nan"], "'nan' is not a learning rate; expected a number above 0"),
        (["--lr", "inf"], "'inf' is not a learning rate"),
        (["--lr", 0], "'0' is not a learning rate"),
        (["--threads", 0], "'0' is not a number of threads"),
        (["--threads", 5000], "'5000' is not a number of threads; expected a whole number, 1 to"),
        (["--seed", -1], "'-1' is not a seed; expected a whole number, 0 or more"),
        (["--epochs", "9" * 5000], "is not a number of epochs"),
        (["--epoch", 1], "unrecognized arguments: --epoch 1"),
        (["--log-interval", 0], "'0' is not a number of steps"),
        (["--data-dir", "no/such/folder"], "'no/such/folder' is not a folder"),
        (["--data-dir", "a" * 5000], "aaa: cannot be read: File name too long (see --help)."),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
        (["--slots", 6], "slots is 6; expected a power of two, or 0"),
        (["--shard-optimizer"], "--shard-optimizer without --mpi: one process keeps all"),
    ],
)
def test_usage_errors_are_one_sentence(options, words):
    run = command(*options)
    assert run.returncode == 2
    assert run.stdout == ""
    assert len(run.stderr.splitlines()) == 1
    assert words in run.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--validation-size", 120], "validation_size is 120; expected 0 to 119"),
        (["--validation-size", 20, "--batch-size", 101], "101 is more than the 100"),
        (["--validation-size", 20, "--limit-train", 101], "101 is more than the 100"),
    ],
)
def test_options_that_do_not_fit_the_data(folder, options, words):
    run = command("--data-dir", folder, *options)
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert words in run.stderr


def test_help_groups_options_and_shows_defaults():
    run = command("--help")
    assert run.returncode == 0
    words = " ".join(run.stdout.split())
    for text in (
        "learning rate, which the schedule multiplies",
        "recipe:",
        "training: settings of the recipe:",
        "data:",
        "ending:",
        "files:",
        "machine and output:",
        "(lecture: 30)",
        "(lecture: 0.001)",
        "default: 100",
        "130",
    ):
        assert text in words
    assert "None" not in words
    assert "[]" not in words
    assert "best: the most accurate, 20 epochs" in words  # figures belong to the documents
    assert "A signal waits for the end of the step, longer for a larger --batch-size," in words


def test_a_bad_file_is_exit_1(folder, tmp_path):
    write_folder(tmp_path, train=30, test=10)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-5])
    run = command("--data-dir", tmp_path, "--validation-size", 0, "--batch-size", 10)
    assert run.returncode == 1
    assert len(run.stderr.splitlines()) == 1
    assert "t10k-images-idx3-ubyte.gz: found a gzip stream that is cut off" in run.stderr
    assert "RESULT" not in run.stdout


def test_divergence_is_exit_3_and_names_the_step(folder):
    run = command(*small(folder, "--lr", "1e30", "--epochs", 1))
    assert run.returncode == 3
    assert re.search(r"diverged: the loss is \S+ at epoch 0, step \d+;", run.stderr)
    assert "RESULT" not in run.stdout


def test_from_a_read_only_folder(folder, tmp_path):
    tmp_path.chmod(0o555)
    try:
        run = command(*small(folder, "--epochs", 1, "--quiet"), cwd=tmp_path)
    finally:
        tmp_path.chmod(0o755)
    assert run.returncode == 0, run.stderr
    assert list(tmp_path.iterdir()) == []


def test_divergence_of_the_last_step_is_seen_too(folder):
    options = ("--data-dir", folder, "--validation-size", 0, "--batch-size", 120, "--epochs", 1)
    run = command(*options, "--lr", "1e30")  # one step: its own loss is finite
    assert run.returncode == 3
    assert "NaN or infinite" in run.stderr
    assert "epoch 0, step 0" in run.stderr
    assert "RESULT" not in run.stdout


def test_images_that_fill_no_batch_are_dropped(folder):
    run = command(*small(folder, "--limit-train", 27, "--epochs", 2, "--quiet"))
    assert run.returncode == 0, run.stderr
    assert result_of(run)["steps"] == 4


def test_a_terminal_gets_a_bar_with_speed_and_time_left(folder):
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, *map(str, small(folder, "--epochs", 10))],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=its,
        text=True,
    )
    os.close(its)
    seen = b""
    with contextlib.suppress(OSError):  # Linux reports the end of a terminal as an error
        while piece := os.read(ours, 1 << 16):
            seen += piece
    os.close(ours)
    out, _ = process.communicate()
    assert process.returncode == 0
    bar = r"%\|.*[\dk]/1\.00k \[\d\d:\d\d<\S+, +\S+ images/s\]"
    assert re.search(r" [1-9]\d" + bar, seen.decode())
    assert re.search("100" + bar, seen.decode())
    assert "images/s]" not in out
    assert out.splitlines()[-1].startswith("RESULT {")
