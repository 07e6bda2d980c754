"""Rules of the folders: what may include what, where OpenMP, the environment and versions live."""

import re
import shutil
import subprocess
from pathlib import Path

import _pycnn
import numpy as np
import pytest

import pycnn
from pycnn._runtime import freshness

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
KERNEL_HEADERS = {
    "epilogue.h",
    "exp.h",
    "power.h",
    "finish.h",
    "kernels.h",
    "kernels_grouped.h",
    "kernels_maps.h",
    "simd.h",
    "simd_lists.h",
    "simd_maps.h",
    "softmax_rows.h",
    "table.h",
}
KERNEL_STANDARD = {"cstddef", "cstdint", "cstring"}
MOST_LINES = 400
INTRINSICS = {"immintrin.h", "arm_neon.h"}


def includes(path):
    return re.findall(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)


def sources(folder, pattern="*"):
    files = sorted(p for p in folder.glob(pattern) if p.suffix in {".cpp", ".h"})
    assert files
    return files


@pytest.mark.parametrize("path", sources(CSRC / "kernels"), ids=lambda p: p.name)
def test_kernels_include_only_what_cannot_leak_weak_symbols(path):
    allowed = KERNEL_HEADERS | KERNEL_STANDARD
    if path.name == "simd.h":
        allowed |= INTRINSICS
    assert set(includes(path)) <= allowed


@pytest.mark.parametrize("path", sources(CSRC / "ops", "**/*"), ids=lambda p: p.name)
def test_ops_know_neither_python_nor_vectors(path):
    for name in includes(path):
        assert "pybind11" not in name
        assert "Python.h" not in name
        assert "simd" not in name
        assert name not in INTRINSICS


def code_files():
    return sources(CSRC, "**/*")


def files_with(pattern):
    return {p.name for p in code_files() if re.search(pattern, p.read_text(), re.MULTILINE)}


def test_each_mechanism_has_one_home():
    assert files_with(r"^\s*#\s*pragma omp") == {"parallel.cpp"}
    assert files_with(r"getenv\(") == {"dispatch.cpp", "threads.cpp"}
    assert files_with(r"__builtin_cpu_supports") == {"dispatch.cpp"}
    assert files_with(r"^\s*#\s*(if|elif|ifdef).*__(AVX|FMA|SSE)") == {
        "simd.h",
        "simd_lists.h",
        "simd_maps.h",
    }
    assert files_with(r"gil_scoped_release") == {"array_check.h", "bindings.cpp"}


def functions(path):
    """The text of each function that stands at the left margin, from its first line to its end."""
    return re.findall(r"^\w[^;{}]*\) \{\n.*?^\}", path.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", sorted(CSRC.glob("bindings*.cpp")), ids=lambda p: p.name)
def test_every_binding_that_writes_an_array_drops_the_gil(path):
    """From WithoutGil to the end of its block nothing of Python is touched."""
    writers = [f for f in functions(path) if re.search(r"\bwritable<|mutable_data\(\)", f)]
    assert writers or path.name in ("bindings_network.cpp", "bindings_network_moves.cpp")
    for function in writers:
        held = re.findall(r"^( *)const WithoutGil running;\n(.*?)^(?!\1)", function, re.M | re.S)
        assert held, function
        for _, block in held:
            assert not re.search(r"\bpy::|\bthrow\b|\bcheck_", block), block
    assert len(re.findall("WithoutGil", path.read_text())) >= len(writers)


def test_python_imports_the_compiled_module_in_few_places():
    users = {
        p.relative_to(ROOT / "pycnn").as_posix()
        for p in (ROOT / "pycnn").rglob("*.py")
        if re.search(r"^\s*(import|from) _pycnn", p.read_text(), re.MULTILINE)
    }
    assert users == {
        "__init__.py",
        "_runtime/machine.py",
        "ops/activations.py",
        "ops/conv_pool.py",
        "ops/conv2d.py",
        "ops/dense.py",
        "ops/dropout.py",
        "ops/images.py",
        "ops/join.py",
        "ops/moved.py",
        "ops/moves.py",
        "ops/resized.py",
        "ops/losses.py",
        "ops/norm.py",
        "ops/optim.py",
        "ops/pool2d.py",
        "ops/conv_norm.py",
        "ops/conv_transpose2d.py",
        "ops/whole_pool2d.py",
        "ops/prepared.py",
        "ops/row_norm.py",
        "_runtime/freshness.py",
        "graph/compile.py",
    }


def test_toml_is_read_in_one_place():
    """Python 3.10 has no tomllib: another import of it breaks pycnn, or the suite, there."""
    users = {
        p.relative_to(ROOT).as_posix()
        for folder in ("pycnn", "tests", "benchmarks")
        for p in (ROOT / folder).rglob("*.py")
        if re.search(r"^\s*(import|from) (tomllib|tomli)\b", p.read_text(), re.MULTILINE)
    }
    assert users == {"pycnn/_formats/toml.py", "tests/faults/run.py"}  # it runs without pycnn


def test_files_stay_short():
    long = {
        p.relative_to(ROOT).as_posix(): n
        for pattern in ("csrc/**/*.cpp", "csrc/**/*.h", "pycnn/**/*.py", "tests/*.py")
        for p in ROOT.glob(pattern)
        if (n := len(p.read_text().splitlines())) > MOST_LINES
    }
    assert not long
    assert f"a test refuses more than {MOST_LINES})" in (ROOT / "CONTRIBUTING.md").read_text()


def test_the_version_stands_in_one_place():
    declared = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared
    assert declared[1] == pycnn.__version__
    for path in [*ROOT.glob("pycnn/**/*.py"), *ROOT.glob("csrc/**/*"), ROOT / "CMakeLists.txt"]:
        if path.is_file() and path.suffix not in {".gz", ".pyc"}:
            assert declared[1] not in path.read_text(errors="replace"), path


def test_no_flag_that_changes_the_arithmetic():
    for path in (ROOT / "CMakeLists.txt", ROOT / "pyproject.toml"):
        lines = [line.partition("#")[0] for line in path.read_text().splitlines()]
        for flag in ("-ffast-math", "-Ofast", "-march=native", "-funsafe-math"):
            assert not any(flag in line for line in lines)


def test_denormals_survive_import_and_work():
    x = np.full((64, 64), 1e-39, dtype=np.float32)
    pycnn.ops.matmul(np.ones((64, 64), np.float32), np.ones((64, 64), np.float32))
    assert np.finfo(np.float32).smallest_subnormal != 0
    assert (pycnn.ops.relu(x) == np.float32(1e-39)).all()
    assert x[0, 0] * np.float32(0.5) != 0


def test_the_hash_sees_every_change(tmp_path):
    copy = tmp_path / "csrc"
    shutil.copytree(CSRC, copy)
    assert freshness.source_hash(copy) == freshness.source_hash(CSRC) == _pycnn.source_hash
    (copy / "ops" / "gemm" / "gemm.cpp").write_text("// changed\n")
    assert freshness.source_hash(copy) != _pycnn.source_hash
    shutil.copy(CSRC / "ops" / "gemm" / "gemm.cpp", copy / "ops" / "gemm" / "gemm.cpp")
    assert freshness.source_hash(copy) == _pycnn.source_hash
    (copy / "new.h").write_text("")
    assert freshness.source_hash(copy) != _pycnn.source_hash


def test_a_stale_module_is_told_in_a_sentence(tmp_path):
    shutil.copytree(
        ROOT / "pycnn", tmp_path / "pycnn", ignore=shutil.ignore_patterns("*.gz", "__pycache__")
    )
    shutil.copytree(CSRC, tmp_path / "csrc")
    with (tmp_path / "csrc" / "bindings.cpp").open("a") as file:
        file.write("// newer\n")
    import sys

    run = subprocess.run(
        [sys.executable, "-c", "import pycnn"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "built from other sources" in run.stderr
    assert f"pip install {tmp_path}" in run.stderr


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm (binutils) is not on this machine")
def test_the_module_defines_no_weak_symbol_of_a_kernel_namespace():
    symbols = subprocess.run(
        ["nm", "--demangle", _pycnn.__file__], capture_output=True, text=True, check=True
    ).stdout
    kernels = [
        line
        for line in symbols.splitlines()
        if re.search(r"pycnn::(baseline|avx2|avx512|neon)::", line)
    ]
    if not kernels:
        pytest.skip(
            "the installed module was stripped of its symbols; the build has checked the objects"
        )
    weak = [line for line in kernels if re.search(r" [WwVu] ", line)]
    assert not weak
