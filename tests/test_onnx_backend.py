"""The node tests of the `onnx` package, through `pycnn.onnx.backend`."""

import warnings

import pytest

onnx = pytest.importorskip("onnx", reason="onnx is in an extra: pip install '.[onnx]'")


# Tests of known operators that do not apply, by a piece of their names: why.
EXCLUDED = {
    "_uint": "whole numbers: values are float32",
    "_int": "whole numbers: values are float32",
}


@pytest.fixture(scope="module")
def cases():
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_model_tests(kind="node")
