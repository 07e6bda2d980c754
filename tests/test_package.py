"""What a user installs: size, import, types, extras, and a program that type-checks."""

import os
import subprocess
import sys
from pathlib import Path

import _pycnn
import pytest

import pycnn
from pycnn._formats import toml

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
import numpy as np
import pycnn
from pycnn import datasets, layers, losses, models, ops, optim

x = np.zeros((2, 28, 28, 1), np.float32)
w = np.zeros((3, 3, 1, 8), np.float32)
y = ops.conv2d(x, w, padding="same", stride=(1, 1), activation="relu")
pooled, where = ops.max_pool2d(y, 2, return_indices=True)
only = ops.max_pool2d(y, 2)
reveal_type(only.shape)
model: layers.Sequential = models.mnist_cnn(rng=0)
loss, dlogits = losses.SoftmaxCrossEntropy()(model.forward(x), np.zeros(2, np.int64))
model.backward(dlogits)
optim.Adam(model.parameters(), lr=1e-3).step()
number: float = loss
with pycnn.num_threads(1):
    print(pycnn.isa(), pycnn.get_num_threads())
"""


def run(code, folder, **environment):
    return subprocess.run(
        [sys.executable, *code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


# A line at the end of that program: what mypy must complain about.
WRONG = {
    "ops.conv2d(x, w, stride='two')": "stride",
    "ops.matmul(x, w, transpose_a=1.5)": "transpose_a",
    "pycnn.set_num_threads('2')": "set_num_threads",
    "number = 'a'": "assignment",
}


def test_a_right_program_of_a_user_checks_and_a_wrong_one_does_not(tmp_path):
    """All in one run of mypy, each wrong one with one complaint, at its last line."""
    pytest.importorskip("mypy", reason="mypy is in the extra: pip install '.[test]'")
    wrong = {f"wrong_{i}.py": line for i, line in enumerate(WRONG)}
    (tmp_path / "right.py").write_text(PROGRAM)
    for file, line in wrong.items():
        (tmp_path / file).write_text(PROGRAM + line + "\n")
    result = run(["-m", "mypy", "--strict", "right.py", *wrong], tmp_path)
    assert result.returncode == 1
    said = result.stdout.replace("builtins.tuple", "tuple").splitlines()
    (revealed,) = (line for line in said if line.startswith("right.py:"))
    assert 'note: Revealed type is "tuple[' in revealed
    errors = [line for line in said if "error:" in line]
    assert len(errors) == len(wrong), result.stdout
    last = len(PROGRAM.splitlines()) + 1
    for error, (file, line) in zip(sorted(errors), wrong.items(), strict=True):
        assert error.startswith(f"{file}:{last}: error:")
        assert WRONG[line] in error


def test_the_compiled_module_has_a_stub_package():
    folder = Path(_pycnn.__file__).parent / "_pycnn-stubs"
    text = (folder / "__init__.pyi").read_text()
    names = [n for n in dir(_pycnn) if not n.startswith("__")]
    assert names
    for name in names:
        assert f"def {name}(" in text or f"class {name}:" in text or f"{name}: str" in text, name


def test_the_module_is_small():
    assert Path(_pycnn.__file__).stat().st_size <= 4 * 2**20


def test_import_from_an_empty_folder_and_from_the_root(tmp_path):
    code = ["-c", "import pycnn, _pycnn; print(pycnn.__version__, _pycnn.__version__)"]
    expected = f"{pycnn.__version__} {pycnn.__version__}\n"
    assert run(code, ROOT).stdout == expected
    if "site-packages" in pycnn.__file__ or run(code, tmp_path).returncode == 0:
        assert run(code, tmp_path).stdout == expected
    else:
        pytest.skip("pycnn itself is not installed here: pip install .")


def test_import_loads_no_library_that_only_some_calls_need():
    code = (
        "import sys, pycnn\n"
        "late = ('matplotlib', 'torch', 'hypothesis', 'safetensors')\n"
        "print([m for m in late if m in sys.modules])"
    )
    assert run(["-c", code], ROOT).stdout == "[]\n"


def test_parts_that_are_loaded_at_their_first_use_are_attributes(tmp_path):
    names = "interop", "onnx", "plots", "predict", "report"
    done = run(["-c", f"import pycnn; [getattr(pycnn, n).__name__ for n in {names}]"], tmp_path)
    assert done.stderr == ""
    assert set(names) <= set(pycnn.__all__)
    assert {*names, "sklearn"} <= set(dir(pycnn))
    program = "from pycnn import *; interop.to_torch_state_dict; plots.save; report.write"
    assert run(["-c", program], tmp_path).stderr == ""


def test_extras_and_core_dependencies():
    project = toml.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    of_users = ["images", "mpi", "onnx", "plot", "sklearn"]
    assert {"test", "dev", "bench", "all", "dask", *of_users} == set(extras)
    assert [sorted(extra[6:-1].split(",")) for extra in extras["all"]] == [of_users]
    core = {d.partition(">")[0] for d in project["dependencies"] if "python_version" not in d}
    assert core == {"numpy", "safetensors", "tqdm"}


def test_a_module_without_symbols_of_ours_is_told(tmp_path):
    """A checkout without the compiled module says what to type."""
    import shutil

    shutil.copytree(
        ROOT / "pycnn", tmp_path / "pycnn", ignore=shutil.ignore_patterns("*.gz", "__pycache__")
    )
    code = (
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == '_pycnn':\n"
        "            raise ModuleNotFoundError(\"No module named '_pycnn'\", name='_pycnn')\n"
        "sys.meta_path.insert(0, Hide())\n"
        "import pycnn\n"
    )
    result = run(["-c", code], tmp_path)
    assert result.returncode == 1
    assert "pip install ." in result.stderr
    assert "not installed in this environment" in result.stderr
