"""`python -m pycnn.train` as a person or a script sees it."""

import contextlib
import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import time

import _pycnn
import pytest
from idx_files import write_folder

import pycnn
from pycnn import _signals, train

COMMAND = [sys.executable, "-m", "pycnn.train"]
ROOT = os.path.dirname(os.path.dirname(pycnn.__file__))
PLACES = [ROOT, os.path.dirname(_pycnn.__file__)]  # of the modules that this process tests
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(PLACES)}


def command(*options, cwd=None, **kwargs):
    return subprocess.run(
        [*COMMAND, *map(str, options)],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        **kwargs,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data"), train=120, test=40)


def small(folder, *options):
    return ("--data-dir", folder, "--validation-size", 20, "--batch-size", 10, *options)


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
    for text in (
        "training:",
        "data:",
        "machine and output:",
        "default: 30",
        "default: 0.001",
        "130",
    ):
        assert text in run.stdout
    assert "None" not in run.stdout


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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run(number, code):
    process = subprocess.Popen(
        [*COMMAND, "--log-interval", "1"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if "step = 3" in line:
            break
    time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate()
    assert process.returncode == code
    assert "RESULT" not in out
    reached = re.search(rf"stopped by {number.name}; (\d+) steps were finished", err)
    assert reached
    assert int(reached[1]) >= 3
    assert len(err.splitlines()) == 1


def test_from_a_read_only_folder(folder, tmp_path):
    tmp_path.chmod(0o555)
    try:
        run = command(*small(folder, "--epochs", 1, "--quiet"), cwd=tmp_path)
    finally:
        tmp_path.chmod(0o755)
    assert run.returncode == 0, run.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_leaves_is_no_traceback(folder):
    process = subprocess.Popen(
        [*COMMAND, *map(str, small(folder, "--epochs", 50))],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.wait() == 1
    assert process.stderr.read() == ""
    process.stderr.close()


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


def test_a_second_signal_does_not_disturb_the_answer_to_the_first():
    with _signals.stoppable():
        with pytest.raises(_signals.Stopped) as caught:
            signal.raise_signal(signal.SIGTERM)
        assert caught.value.number == signal.SIGTERM
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("form", [["-m", "pycnn.train"], ["-mpycnn.train"]])
@pytest.mark.parametrize("slow_import", ["numpy", "tqdm"])
def test_a_signal_during_the_start_is_a_sentence(tmp_path, form, slow_import):
    (tmp_path / f"{slow_import}.py").write_text("import signal\nsignal.raise_signal(2)\n")
    run = subprocess.run(
        [sys.executable, *form, "--epochs", "1"],
        env={**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(tmp_path), *PLACES])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 130
    assert run.stdout == ""
    assert run.stderr == "pycnn.train: stopped by SIGINT; no step was finished.\n"


def test_an_import_changes_no_handler(tmp_path):
    (tmp_path / "program.py").write_text(
        "import signal, sys\nimport pycnn.train\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    )
    for form in (["program.py"], ["-m", "program"], ["-c", "import program"]):
        run = subprocess.run(
            [sys.executable, *form, "-m", "pycnn.train"],
            cwd=tmp_path,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_ignored_signal_stays_ignored(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with _signals.stoppable():
            assert signal.getsignal(number) is signal.SIG_IGN
            signal.raise_signal(number)
            other = {signal.SIGINT, signal.SIGTERM}.difference({number}).pop()
            with pytest.raises(_signals.Stopped):
                signal.raise_signal(other)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_behind_stdout_is_a_sentence(folder):
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [*COMMAND, *map(str, small(folder, "--epochs", 1))],
            env=ENVIRONMENT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert run.returncode == 1
    assert "cannot write its lines: No space left on device" in run.stderr
    assert len(run.stderr.splitlines()) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_help_that_cannot_be_written_is_a_sentence_too(unbuffered):
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [*COMMAND, "--help"],
            env={**ENVIRONMENT, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert run.returncode == 1
    assert run.stderr == "pycnn.train: cannot write its lines: No space left on device.\n"


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


def test_main_returns_and_leaves_the_process_as_it_was(folder, capsys):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    threads = pycnn.get_num_threads()
    other = 2 if threads == 1 else 1
    options = small(folder, "--epochs", 1, "--threads", other, "--quiet")
    assert train.main([str(option) for option in options]) == 0
    assert capsys.readouterr().out.startswith("RESULT {")
    assert pycnn.get_num_threads() == threads
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    with pytest.raises(SystemExit) as caught:
        train.main(["--epochs", "0"])
    assert caught.value.code == 2


def test_only_a_write_to_stdout_is_called_one(folder, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    options = [str(option) for option in small(folder, "--epochs", 1)]
    monkeypatch.setattr(train.models, "mnist_cnn", full)
    with pytest.raises(OSError, match="No space left"):
        train.main(options)
    assert "cannot write" not in capsys.readouterr().err
