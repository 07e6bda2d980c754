"""Temporary files of killed processes go with the next save; those of the living stay."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from train_command import ENVIRONMENT

import pycnn
from pycnn import layers
from pycnn._formats import files, temporary
from pycnn._formats.temporary import remove_leftovers, temporary_name

WRITE = (
    "import os, sys, numpy as np; from pycnn._formats import files\n"
    "{}\n"
    "files.write_safetensors(sys.argv[1], {{'a': np.ones(9)}}, {{}})"
)


def writer(path, at_sync, **options):
    """A process that comes to the moment before its temporary file takes its name."""
    command = [sys.executable, "-c", WRITE.format(at_sync), str(path)]
    return subprocess.Popen(command, env=ENVIRONMENT, **options)


def named(**parts):
    """A temporary name with other parts."""
    host, boot, process, start, random = (
        temporary_name().removeprefix(temporary.PREFIX).removesuffix(temporary.SUFFIX).split("-")
    )
    own = {"host": host, "boot": boot, "process": process, "start": start, "random": random}
    text = "-".join(str(part) for part in {**own, **parts}.values())
    return f"{temporary.PREFIX}{text}{temporary.SUFFIX}"


@pytest.fixture
def dead():
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_next_save_removes_what_sigkill_left(tmp_path):
    for _ in range(2):
        killed = writer(tmp_path / "f", "files.os.fsync = lambda handle: os.kill(os.getpid(), 9)")
        assert killed.wait() == -9
        assert len(os.listdir(tmp_path)) == 1  # the second writer has removed the first one's
    (tmp_path / "mine.tmp").write_text("")
    pycnn.save_model(layers.Sequential(layers.ReLU()), tmp_path / "model")
    assert sorted(os.listdir(tmp_path)) == ["mine.tmp", "model"]


def test_a_living_writer_keeps_its_file(tmp_path):
    wait = "files.os.fsync = lambda handle: (print(flush=True), sys.stdin.readline())"
    other = writer(tmp_path / "f", wait, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    other.stdout.readline()
    (temporary_file,) = os.listdir(tmp_path)
    files.write_safetensors(tmp_path / "g", {}, {})
    assert sorted(os.listdir(tmp_path)) == [temporary_file, "g"]
    other.communicate(b"\n\n")
    assert other.returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["f", "g"]


def test_a_thread_keeps_the_file_of_another(tmp_path, monkeypatch):
    arrived, go_on, real = threading.Event(), threading.Event(), os.fsync

    def wait(handle):
        if threading.current_thread() is other and not arrived.is_set():
            arrived.set()
            go_on.wait()
        real(handle)

    monkeypatch.setattr(files.os, "fsync", wait)
    arrays = {"a": np.ones(9)}
    other = threading.Thread(target=files.write_safetensors, args=(tmp_path / "f", arrays, {}))
    other.start()
    arrived.wait()
    files.write_safetensors(tmp_path / "g", {}, {})
    go_on.set()
    other.join()
    assert sorted(os.listdir(tmp_path)) == ["f", "g"]


def test_whose_files_go_and_whose_stay(tmp_path, dead):
    gone = [
        named(process=dead),
        named(boot="0123456789ab"),  # before the machine was started anew
        named(start=1),  # another process has this id now
    ]
    stay = [
        temporary_name(),
        named(host="0123456789ab", process=dead),
        named(process=dead, boot="0"),  # not known
        named(process=0),
        named(start=0),
        named(process=1, start=temporary._started(1) or 0),
        named(process=dead, random="a-b"),
        named(process="x"),
        named(process=10**30),
        ".pycnn-0123.tmp",
        "pycnn",
    ]
    for name in [*gone, *stay]:
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(stay)


def test_a_process_that_proc_hides_is_taken_for_living(tmp_path, monkeypatch):
    (tmp_path / named(process=os.getppid(), start=5)).write_text("")
    monkeypatch.setattr(temporary, "_PROC", tmp_path / "no")
    remove_leftovers(tmp_path)
    assert len(os.listdir(tmp_path)) == 1


def test_an_unknown_boot_removes_nothing(tmp_path, monkeypatch, dead):
    (tmp_path / named(process=dead)).write_text("")
    monkeypatch.setattr(temporary, "_boot", lambda: "0")
    remove_leftovers(tmp_path)
    assert len(os.listdir(tmp_path)) == 1


def test_the_start_is_read_behind_a_name_with_brackets(tmp_path, monkeypatch):
    (tmp_path / "7").mkdir()
    fields = " ".join(map(str, range(3, 53)))
    (tmp_path / "7" / "stat").write_text(f"7 (a) b (c) {fields}\n")
    monkeypatch.setattr(temporary, "_PROC", tmp_path)
    assert temporary._started(7) == 22


def test_a_folder_that_is_not_there_is_no_error(tmp_path):
    remove_leftovers(tmp_path / "no")
    assert os.listdir(tmp_path) == []
