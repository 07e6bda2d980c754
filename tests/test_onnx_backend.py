"""The node tests of the `onnx` package itself, through `pycnn.onnx.backend`."""

import warnings
from collections import defaultdict

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is in an extra: pip install '.[onnx]'")

from pycnn import FileError  # noqa: E402
from pycnn.onnx import backend, fold  # noqa: E402
from pycnn.onnx.operators import OPERATORS  # noqa: E402

KNOWN = set(OPERATORS) | set(fold.FOLDED)
# Tests of known operators that pycnn does not pass: a piece of the name, and why.
EXCLUDED = {
    "_3d_default": "three axes of space", "_3d_dilations": "three axes of space",
    "convtranspose_3d": "three axes of space", "training_mode": "BatchNormalization that trains",
    "flexattention": "products of two computed matrices", "matmul_3d": "the same",
    "matmul_bcast": "the same", "matmul_1d_3d": "the same",
    "pow_example": "an exponent for each number", "pow_bcast_array": "the same",
    "pow_types_float32": "the same", "sum_empty_set": "arrays without numbers",
    "square_empty_set": "the same", "l1_empty_set": "the same", "l2_empty_set": "the same",
    "max_empty_set": "the same", "min_empty_set": "the same", "zero_size": "the same",
    "start_out_of_bounds": "the same", "allowzero": "the same",
    "rotary_embedding_expanded": "the same", "rotary_embedding_3d_input": "the same",
    "rotary_embedding_interleaved": "the same",
    "no_position_ids_expanded": "the same", "no_position_ids_interleaved": "the same",
    "range_bfloat16": "bfloat16, which NumPy does not have",
}  # fmt: skip
ALONE = {  # whole names
    "test_pow": "an exponent for each number",
    "test_matmul_4d": "a product of two computed matrices",
}


def operators(case):
    """The operators of its model, of other domains with their names."""
    return {f"{n.domain}.{n.op_type}".removeprefix(".") for n in case.model.graph.node}


def is_float32(case):
    """Whether it is about float32, or about what is computed at import."""
    arrays = [a for inputs, outputs in case.data_sets for a in [*inputs, *outputs]]
    if not all(isinstance(a, np.ndarray) for a in arrays):
        return False
    if not operators(case) & set(OPERATORS):
        return True
    return all(y.dtype == np.float32 for _, outputs in case.data_sets for y in outputs)


@pytest.fixture(scope="module")
def cases():
    """Those of known operators, by operator."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = load_model_tests(kind="node")
    found = defaultdict(list)
    for case in loaded:
        names = operators(case)
        if names <= KNOWN and is_float32(case):
            found[min(names)].append(case)
    return found


def is_excluded(case):
    return case.name in ALONE or any(piece in case.name for piece in EXCLUDED)


def run(case):
    proto = onnx.ModelProto()
    proto.CopyFrom(case.model)
    if operators(case) == {"LayerNormalization"}:  # no Mean and InvStdDev, which training reads
        del proto.graph.output[1:]
    prepared = backend.prepare(proto)
    for inputs, outputs in case.data_sets:
        ys = prepared.run(list(inputs))
        for y, z in zip(ys, outputs[: len(proto.graph.output)], strict=True):
            assert (y.shape, y.dtype) == (z.shape, z.dtype), case.name
            atol = max(case.atol, 1e-7)
            np.testing.assert_allclose(y, z, rtol=case.rtol, atol=atol, err_msg=case.name)


@pytest.mark.parametrize("operator", sorted(KNOWN))
def test_the_node_tests_of_onnx_pass(cases, operator):
    for case in cases[operator]:
        if not is_excluded(case):
            run(case)


def test_every_exclusion_is_needed(cases):
    every = [case for found in cases.values() for case in found]
    excluded = [case for case in every if is_excluded(case)]
    for piece in EXCLUDED:
        assert any(piece in case.name for case in excluded), piece
    for case in excluded:
        with pytest.raises((AssertionError, FileError)):
            run(case)
    assert len(every) - len(excluded) > 500
