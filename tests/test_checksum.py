"""A file of which one bit has changed is refused, or holds what it held."""

import json

import numpy as np
import pytest
import safetensors.numpy
from file_cases import METADATA, TENSORS, assert_same

import pycnn
from pycnn import layers
from pycnn._formats.files import CHECKSUM, KEY, read_safetensors, write_safetensors
from pycnn.modelfile import describe
from pycnn.preprocessing import Normalization


def damaged(path):
    """The file's bytes with one bit flipped, for every bit."""
    whole = path.read_bytes()
    for at in range(8 * len(whole)):
        content = bytearray(whole)
        content[at // 8] ^= 1 << at % 8
        yield content


def test_no_flipped_bit_changes_arrays(tmp_path):
    path = tmp_path / "f"
    write_safetensors(path, {name: TENSORS[name] for name in ("a", "b", "empty")}, {"x": [0.5]})
    refused = total = 0
    before = read_safetensors(path)[0]
    for total, content in enumerate(damaged(path), 1):  # noqa: B007
        path.write_bytes(content)
        try:
            read, metadata = read_safetensors(path)
        except pycnn.FileError:
            refused += 1
            continue
        assert_same(read, before)
        # The names of the two entries themselves are what nothing vouches for.
        assert metadata in ({"x": [0.5]}, {}) or set(metadata) - {"x"} != {CHECKSUM}
        assert metadata.get("x", [0.5]) == [0.5]
    assert 0.9 * total < refused < total


@pytest.mark.slow
def test_no_flipped_bit_changes_a_model(tmp_path):
    model = layers.Sequential(layers.BatchNorm2d(2, momentum=0.25), layers.Dropout(0.25))
    model.normalization = Normalization(0.5, 0.25)
    path = tmp_path / "f"
    pycnn.save_model(model, path)
    before = describe(model), model.state_dict()
    refused = 0
    for content in damaged(path):
        path.write_bytes(content)
        try:
            read = pycnn.load_model(path)
        except pycnn.FileError:
            refused += 1
            continue
        assert describe(read) == before[0]
        assert_same(read.state_dict(), before[1])
    assert refused > 0.9 * 8 * path.stat().st_size


@pytest.mark.parametrize("change", ["number", "name", "type", "shape", "metadata", "swap"])
def test_all_that_is_told_of_an_array_is_checked(tmp_path, change):
    """As a program changes it that writes a whole file of the format."""
    tensors = {"a": np.arange(6, dtype=np.float32), "b": np.arange(6, 12, dtype=np.float32)}
    path = tmp_path / "f"
    write_safetensors(path, tensors, METADATA)
    with safetensors.safe_open(path, framework="np") as file:
        text = file.metadata()[KEY]
    other = {name: array.copy() for name, array in tensors.items()}
    safetensors.numpy.save_file(other, path, {KEY: text})
    assert_same(read_safetensors(path)[0], tensors)
    if change == "number":
        other["a"][3] = np.nextafter(np.float32(3), 4)
    elif change == "name":
        other["c"] = other.pop("b")
    elif change == "type":
        other["a"] = other["a"].view(np.int32)
    elif change == "shape":
        other["a"] = other["a"].reshape(2, 3)
    elif change == "swap":
        other["a"], other["b"] = other["b"], other["a"]
    else:
        text = text.replace("0.1", "0.2")
    safetensors.numpy.save_file(other, path, {KEY: text})
    with pytest.raises(pycnn.FileError, match=r"f: its content does not have its checksum, so it"):
        read_safetensors(path)


def test_a_file_without_a_checksum_is_read(tmp_path):
    path = tmp_path / "f"
    safetensors.numpy.save_file(TENSORS, path, {KEY: json.dumps(METADATA)})
    tensors, metadata = read_safetensors(path)
    assert_same(tensors, TENSORS)
    assert metadata == METADATA


def test_an_entry_of_its_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'checksum', which is written by itself"):
        write_safetensors(tmp_path / "f", {}, {CHECKSUM: 1})
    assert list(tmp_path.iterdir()) == []


def test_arrays_in_another_order_of_bytes_have_the_same_file(tmp_path):
    for kind in "<>":
        write_safetensors(tmp_path / kind, {"a": np.arange(3, dtype=f"{kind}f4")}, {})
    assert (tmp_path / "<").read_bytes() == (tmp_path / ">").read_bytes()
    assert_same(read_safetensors(tmp_path / ">")[0], {"a": np.arange(3, dtype=np.float32)})
