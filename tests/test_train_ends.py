"""How `python -m pycnn.train` ends before its time: signals, readers that leave, full disks."""

import json
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
from pycnn import checkpoint, train
from pycnn._commands import signals


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
    with signals.stoppable():
        with pytest.raises(signals.Stopped) as caught:
            signal.raise_signal(signal.SIGTERM)
        assert caught.value.number == signal.SIGTERM
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    "form", [["-m", "pycnn.train"], ["-mpycnn.train"], ["-m", "pycnn", "train"]]
)
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
        with signals.stoppable():
            assert signal.getsignal(number) is signal.SIG_IGN
            signal.raise_signal(number)
            other = {signal.SIGINT, signal.SIGTERM}.difference({number}).pop()
            with pytest.raises(signals.Stopped):
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
    monkeypatch.setattr(pycnn.models, "mnist_cnn", full)
    with pytest.raises(OSError, match="No space left"):
        train.main(options)
    assert "cannot write" not in capsys.readouterr().err


class Steps(pycnn.callbacks.Callback):
    """Calls `act` after this step of all epochs."""

    def __init__(self, step, act):
        self.step, self.act = step, act

    def on_step_end(self, trainer):
        if trainer.steps_done == self.step:
            self.act()


@pytest.fixture
def after_step(monkeypatch):
    """after_step(n, act): the command's next run calls act() after n steps."""
    make = train.make_trainer

    def install(step, act):
        def with_it(*arguments):
            trainer = make(*arguments)
            trainer.callbacks.insert(0, Steps(step, act))
            return trainer

        monkeypatch.setattr(train, "make_trainer", with_it)

    return install


def main(*options):
    return train.main([str(option) for option in options])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_saves(folder, tmp_path, capsys, after_step, number, code):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = small(folder, "--epochs", 2, "--log-interval", 3)
    assert main(*options, "--checkpoint-dir", whole) == 0
    after_step(13, lambda: signal.raise_signal(number))
    model = tmp_path / "model"
    assert main(*options, "--checkpoint-dir", parts, "--save-model", model) == code
    err = capsys.readouterr().err
    assert err == (
        f"pycnn.train: stopped by {number.name}; 13 steps were finished, the last one epoch 1, "
        f"step 2; --resume {parts} goes on.\n"
    )
    assert checkpoint.read(parts / "last.safetensors")[1]["position"]["steps_done"] == 13
    end = json.loads((parts / "log.jsonl").read_text().splitlines()[-1])
    assert end == {"kind": "end", "step": 13, "reason": number.name}
    assert not model.exists()
    after_step(-1, None)
    assert main("--resume", parts, "--data-dir", folder, "--log-interval", 3) == 0
    for name in ("last.safetensors", "best.safetensors", "log.jsonl"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()


def test_one_step_is_no_steps(folder, capsys, after_step):
    after_step(1, lambda: signal.raise_signal(signal.SIGINT))
    assert main(*small(folder)) == 130
    err = capsys.readouterr().err
    assert "; 1 step was finished, the last one epoch 0, step 0." in err


def test_a_second_signal_ends_at_once(folder, tmp_path, capsys, after_step):
    seen = []

    def twice():
        signal.raise_signal(signal.SIGTERM)
        seen.append("goes on")
        signal.raise_signal(signal.SIGINT)
        seen.append("never")

    after_step(5, twice)
    assert main(*small(folder), "--checkpoint-dir", tmp_path / "runs") == 143  # the first one's
    assert seen == ["goes on"]
    assert "stopped by SIGTERM; 5 steps were finished" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "last.safetensors").exists()


def test_a_target_that_is_not_reached_is_exit_4(folder, capsys):
    assert main(*small(folder, "--epochs", 1, "--target-accuracy", 1)) == 4
    out, err = capsys.readouterr()
    assert err == "pycnn.train: the target accuracy 1 was not reached.\n"
    assert out.splitlines()[-1].startswith("RESULT {")


def test_a_target_that_is_reached_ends_the_run(folder, tmp_path, capsys):
    options = small(folder, "--epochs", 9, "--target-accuracy", "0.05")
    assert main(*options, "--checkpoint-dir", tmp_path) == 0
    out = capsys.readouterr().out
    assert "stopped: target accuracy 0.05" in out
    assert json.loads(out.splitlines()[-1].removeprefix("RESULT "))["epochs"] == 1
    before = (tmp_path / "last.safetensors").read_bytes()
    again = ["--resume", tmp_path, "--data-dir", folder, "--target-accuracy", "0.05"]
    assert main(*again) == 0  # there is nothing left to do
    assert (tmp_path / "last.safetensors").read_bytes() == before


def test_a_time_limit_ends_the_run(folder, capsys):
    assert main(*small(folder, "--epochs", 10**6, "--time-limit", "0.05")) == 0
    assert "stopped: time limit of 0.05 s" in capsys.readouterr().out


def test_a_dry_run_is_one_step(folder, capsys):
    assert main(*small(folder, "--dry-run", "--target-accuracy", 1)) == 0
    out = capsys.readouterr().out
    assert "stopped: dry run" in out
    assert json.loads(out.splitlines()[-1].removeprefix("RESULT "))["steps"] == 1


def test_divergence_keeps_the_checkpoint_before(folder, tmp_path, capsys):
    options = small(folder, "--epochs", 3, "--lr", "1e30", "--save-every", 1)
    assert main(*options, "--checkpoint-dir", tmp_path) == 3
    assert "pycnn.train: diverged: " in capsys.readouterr().err
    assert not list(tmp_path.glob(".pycnn*"))
    for path in tmp_path.glob("*.safetensors"):
        checkpoint.read(path)  # which refuses NaN
