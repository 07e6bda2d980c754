"""How `python -m pycnn.train` ends before its time: signals, readers that leave, full disks."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from idx_files import write_folder
from train_command import COMMAND, ENVIRONMENT, PLACES, small

import pycnn
from pycnn import _signals, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data"), train=120, test=40)


@pytest.fixture(autouse=True)
def interruptible():
    """SIGINT as in a terminal: a shell's `command &` ignores it, and every child inherits that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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
