"""The file layer: the format, the same bytes, whole files only, and a sentence for each fault."""

import contextlib
import json
import os
import resource
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest
import safetensors.numpy
from file_cases import METADATA, TENSORS, assert_same
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import pycnn
from pycnn._formats import files as _files
from pycnn._formats.files import read_safetensors, write_safetensors


def test_round_trip(tmp_path):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, TENSORS, METADATA)
    tensors, metadata = read_safetensors(path)
    assert metadata == METADATA
    assert_same(tensors, TENSORS)
    assert os.listdir(tmp_path) == ["a.safetensors"]


KINDS = st.sampled_from(["?", "u1", "i1", "<u2", ">i2", "<f2", "u4", ">i4", "<f4", ">f8", "i8"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc\"\\ é"), inner),
    max_leaves=8,
)  # fmt: skip


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        KINDS.flatmap(lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, min_side=0))),
        max_size=4,
    ),
    st.dictionaries(st.text("abc.", max_size=3), JSON, max_size=3),
)
def test_any_arrays_go_round(tmp_path_factory, tensors, metadata):
    path = tmp_path_factory.mktemp("any") / "file"
    write_safetensors(path, tensors, metadata)
    read, again = read_safetensors(path)
    assert again == metadata
    assert_same(read, tensors)


def test_gaps_and_fortran_order_are_written_in_c_order(tmp_path):
    a = np.arange(24.0).reshape(4, 6)
    tensors = {"gaps": a[::2, ::-3], "fortran": np.asfortranarray(a), "turned": a.T}
    write_safetensors(tmp_path / "f", tensors, {})
    assert_same(read_safetensors(tmp_path / "f")[0], tensors)


def test_other_readers_read_it_and_we_read_other_writers(tmp_path):
    path = tmp_path / "ours"
    write_safetensors(path, TENSORS, METADATA)
    with safetensors.safe_open(path, framework="np") as file:
        assert list(file.metadata()) == ["pycnn"]
        found = json.loads(file.metadata()["pycnn"])
        assert len(found.pop("checksum")) == 32
        assert found == METADATA
        theirs = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        assert_same(theirs, TENSORS)
    theirs = tmp_path / "theirs"
    safetensors.numpy.save_file(TENSORS, theirs, {"other": "text"})
    tensors, metadata = read_safetensors(theirs)
    assert metadata == {}
    assert_same(tensors, TENSORS)


def test_two_processes_and_two_orders_write_the_same_bytes(tmp_path):
    program = (
        "import sys, numpy as np; from pycnn._formats.files import write_safetensors as w\n"
        "names = sys.argv[2].split(',')\n"
        "kinds = ('f4', 'i4', 'u1')\n"
        "tensors = {n + kind: np.full(3, ord(n), kind) for kind in kinds for n in names}\n"
        "w(sys.argv[1], tensors, {n: {n: 1} for n in names})"
    )
    written = []
    for i, names in enumerate(["a,b,c", "c,b,a"]):
        path = tmp_path / str(i)
        env = {**os.environ, "PYTHONHASHSEED": str(i + 1)}
        subprocess.run([sys.executable, "-c", program, path, names], check=True, env=env)
        written.append(path.read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("tensors", "metadata", "error", "message"),
    [
        ({"a": [1.0]}, {}, TypeError, "'a' is a list; expected a NumPy array"),
        ({"a": np.zeros(2, complex)}, {}, TypeError, "'a' is complex128; safetensors has no"),
        ({"__metadata__": np.zeros(2)}, {}, ValueError, "a name that the format reserves"),
        ({}, {"loss": float("nan")}, ValueError, "metadata: .*; expected finite numbers"),
        ({}, {"loss": object()}, TypeError, "not JSON serializable"),
    ],
)
def test_what_the_format_cannot_hold(tmp_path, tensors, metadata, error, message):
    with pytest.raises(error, match=message):
        write_safetensors(tmp_path / "f", tensors, metadata)
    assert os.listdir(tmp_path) == []


def test_a_header_over_the_limit_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "LONGEST_HEADER", 100)
    with pytest.raises(ValueError, match="longer than 100 MB, the limit of safetensors"):
        write_safetensors(tmp_path / "f", {}, {"text": "x" * 100})

    def refuse(tensors, metadata):  # as newer versions of the library do
        raise safetensors.SafetensorError("header too large")

    monkeypatch.setattr(safetensors.numpy, "save", refuse)
    with pytest.raises(ValueError, match="format cannot hold this: header too large"):
        write_safetensors(tmp_path / "f", {}, {})
    assert os.listdir(tmp_path) == []


@pytest.fixture
def old(tmp_path):
    """A file that must survive."""
    path = tmp_path / "old.safetensors"
    write_safetensors(path, {"a": np.zeros(3)}, {"step": 1})
    return path


@contextlib.contextmanager
def small_disk():
    """No file may grow beyond 20 kB; no fixture, since pytest's own log may be larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def refused_write(path, message, folder):
    before = path.read_bytes() if path.is_file() else None
    files = sorted(os.listdir(folder))
    with pytest.raises(pycnn.FileError, match=message) as caught:
        write_safetensors(path, {"a": np.ones(100_000)}, {})
    assert isinstance(caught.value, OSError)
    assert str(path) in str(caught.value)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert sorted(os.listdir(folder)) == files


def test_a_full_disk_leaves_the_old_file(old, tmp_path):
    with small_disk():
        refused_write(
            old, "cannot write: the disk is full.*The file that was there is uncha", tmp_path
        )
        refused_write(tmp_path / "new", r"the disk is full, or a limit .*\)\.$", tmp_path)


def test_a_vanished_folder(tmp_path):
    refused_write(tmp_path / "gone" / "f", "there is no folder .*gone; make it first", tmp_path)
    (tmp_path / "file").write_text("")
    refused_write(tmp_path / "file" / "f", "there is no folder .*file; make it first", tmp_path)


def test_a_folder_and_a_device_in_the_place_of_the_file(tmp_path):
    refused_write(tmp_path, "this is a folder; expected the name of a file", tmp_path)
    os.mkfifo(tmp_path / "pipe")
    refused_write(tmp_path / "pipe", "this is no regular file", tmp_path)


def test_a_read_only_folder(old, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root writes into read-only folders; the next test imitates one")
    tmp_path.chmod(0o555)
    try:
        refused_write(old, "the folder .* is not writable", tmp_path)
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.parametrize("number", ["EROFS", "EACCES", "ENOSPC", "EIO"])
@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_each_call_of_the_system_may_fail(old, tmp_path, monkeypatch, call, number):
    import errno

    code = getattr(errno, number)

    def fail(*arguments, **keywords):
        raise OSError(code, os.strerror(code))

    if call == "open":
        monkeypatch.setattr(_files, "open", fail, raising=False)
    else:
        monkeypatch.setattr(_files.os, call, fail)
    message = {"ENOSPC": "disk is full", "EIO": os.strerror(code)}.get(number, "is not writable")
    refused_write(old, message, tmp_path)


def test_an_interrupt_leaves_no_file(old, tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    before = old.read_bytes()
    monkeypatch.setattr(_files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_safetensors(old, {}, {})
    assert old.read_bytes() == before
    assert os.listdir(tmp_path) == [old.name]


def test_links_and_permissions_stay(old, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(old)
    old.chmod(0o640)
    write_safetensors(link, {}, {"new": True})
    assert link.is_symlink()
    assert read_safetensors(old) == ({}, {"new": True})
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    umask = os.umask(0o027)
    try:
        write_safetensors(tmp_path / "fresh", {}, {})
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "fresh").stat().st_mode) == 0o640


def test_many_writers_of_one_name_leave_one_whole_file(tmp_path):
    path = tmp_path / "f"

    def write(k):
        for _ in range(5):
            write_safetensors(path, {"a": np.full(5000, k)}, {"k": k})

    threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tensors, metadata = read_safetensors(path)
    assert (tensors["a"] == metadata["k"]).all()
    assert os.listdir(tmp_path) == ["f"]


def test_check_finite():
    _files.check_finite("f", {"a": np.ones(2), "b": np.array([1, 2])})
    with pytest.raises(pycnn.FileError, match="f: tensor 'b' holds NaN or Inf: the training had"):
        _files.check_finite("f", {"a": np.ones(2), "b": np.array([1, np.inf])})
