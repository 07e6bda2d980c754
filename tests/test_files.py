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
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import pycnn
from pycnn import _files
from pycnn._files import read_safetensors, write_safetensors

TENSORS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array([True, False]),
    "empty": np.zeros((0, 3), np.int64),
    "scalar": np.array(7, np.uint8),
    "nan": np.array([np.nan, np.inf, -0.0]),
}
METADATA = {"b": [1, None, "ü"], "a": {"y": 0.1, "x": 2**60}}


def assert_same(read, written):
    assert set(read) == set(written)
    for name, array in written.items():
        assert read[name].shape == array.shape
        assert read[name].dtype == array.dtype.newbyteorder("=")
        assert read[name].tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()
        assert read[name].flags.writeable


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


def test_the_library_reads_it_and_we_read_the_library(tmp_path):
    library = pytest.importorskip(
        "safetensors", reason="safetensors is in the extra: pip install '.[test]'"
    )
    from safetensors import numpy as library_numpy

    path = tmp_path / "ours"
    write_safetensors(path, TENSORS, METADATA)
    with library.safe_open(path, framework="np") as file:
        assert list(file.metadata()) == ["pycnn"]
        assert json.loads(file.metadata()["pycnn"]) == METADATA
        assert_same({name: file.get_tensor(name) for name in file.keys()}, TENSORS)  # noqa: SIM118
    theirs = tmp_path / "theirs"
    library_numpy.save_file(TENSORS, theirs, {"other": "text"})
    tensors, metadata = read_safetensors(theirs)
    assert metadata == {}
    assert_same(tensors, TENSORS)


def test_two_processes_and_two_orders_write_the_same_bytes(tmp_path):
    program = (
        "import sys, numpy as np; from pycnn._files import write_safetensors as w\n"
        "names = sys.argv[2].split(',')\n"
        "w(sys.argv[1], {n: np.full(3, ord(n), 'f4') for n in names}, {n: {n: 1} for n in names})"
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


def test_leftovers_of_killed_writers_are_removed(tmp_path):
    program = (
        "import os, numpy as np; from pycnn import _files\n"
        "_files.os.fsync = lambda handle: os.kill(os.getpid(), 9)\n"
        f"_files.write_safetensors({str(tmp_path / 'f')!r}, {{'a': np.ones(9)}}, {{}})"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    (tmp_path / "mine.tmp").write_text("")
    assert len(os.listdir(tmp_path)) == 2
    _files.remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["mine.tmp"]


def test_every_truncation_is_told(tmp_path):
    path = tmp_path / "f"
    write_safetensors(path, TENSORS, METADATA)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        expected = "empty" if length == 0 else "does not begin" if length < 8 else "cut short"
        with pytest.raises(pycnn.FileError, match=expected):
            read_safetensors(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(pycnn.FileError, match="bytes of numbers where its header says"):
        read_safetensors(path)


def test_flipped_bytes_of_the_header_are_told_or_harmless(tmp_path, rng):
    path = tmp_path / "f"
    write_safetensors(path, TENSORS, METADATA)
    whole = path.read_bytes()
    n = 8 + int.from_bytes(whole[:8], "little")
    for at in range(n):
        damaged = bytearray(whole)
        damaged[at] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        with contextlib.suppress(pycnn.FileError):
            read_safetensors(path)


def with_header(header):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04" + b"\0" * 50, "does not begin as safetensors do"),
        (b"\x89PNG\r\n\x1a\n", "fewer than its header says"),
        (with_header(b"{" + b"x" * 20), "its header is no JSON"),
        (with_header(b"{" + b'"a":{' * 9 + b"\xff"), "its header is no JSON"),
        (with_header({"a": [1]}), "describes tensor 'a' in another way"),
        (with_header({"a": entry(shape=(-1,))}), "describes tensor 'a' in another way"),
        (with_header({"a": entry(shape=(True,))}), "describes tensor 'a' in another way"),
        (with_header({"a": entry(offsets=(0, 4, 8))}), "describes tensor 'a' in another way"),
        (with_header({"a": entry("BF16")}), "'a' is 'BF16', a type that NumPy does not have"),
        (with_header({"a": entry(shape=(2,))}) + b"\0" * 4, "another number of bytes"),
        (with_header({"a": entry(shape=(2**62, 2**62))}), "another number of bytes"),
        (with_header({"a": entry(offsets=(4, 8))}) + b"\0" * 8, "'a' does not begin where"),
        (with_header({"a": entry(), "b": entry()}) + b"\0" * 4, "does not begin where the one"),
        (with_header({"a": entry(shape=(10**12,), offsets=(0, 4 * 10**12))}), "cut short"),
        (with_header({"__metadata__": 3}), "__metadata__ is no JSON object"),
        (with_header({"__metadata__": {"pycnn": "[1]"}}), "'pycnn' is no JSON object"),
        (with_header({"__metadata__": {"pycnn": "{"}}), "'pycnn' is no JSON object"),
        (with_header({"__metadata__": {"pycnn": 3}}), "'pycnn' is no JSON object"),
    ],
)
def test_other_files_are_told(tmp_path, content, message):
    path = tmp_path / "f"
    path.write_bytes(content)
    with pytest.raises(pycnn.FileError, match=message):
        read_safetensors(path)


def test_what_is_no_file_is_told(tmp_path):
    with pytest.raises(pycnn.FileError, match="gone: cannot read: No such file"):
        read_safetensors(tmp_path / "gone")
    with pytest.raises(pycnn.FileError, match="this is a folder; expected a safetensors file"):
        read_safetensors(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(pycnn.FileError, match="this is no regular file"):
        read_safetensors(tmp_path / "pipe")
    with pytest.raises(pycnn.FileError, match="cannot read: embedded null"):
        read_safetensors("a\0b")


def test_check_finite():
    _files.check_finite("f", {"a": np.ones(2), "b": np.array([1, 2])})
    with pytest.raises(pycnn.FileError, match="f: tensor 'b' holds NaN or Inf: the training had"):
        _files.check_finite("f", {"a": np.ones(2), "b": np.array([1, np.inf])})
