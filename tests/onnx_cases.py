"""ONNX graphs for tests, and what they compute by the `onnx` package itself."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is in an extra: pip install '.[onnx]'")

FLOAT = onnx.TensorProto.FLOAT


def node(operator, inputs, outputs, name="", **attributes):
    """A node; inputs and outputs: names in a string, two blanks where one is left out."""
    return onnx.helper.make_node(
        operator, inputs.split(" "), outputs.split(" "), name, **attributes
    )


def model(nodes, inputs, outputs, arrays=(), opset=17):
    """A ModelProto; inputs: shapes by name, None for N; outputs: numbers of axes by name."""
    info = onnx.helper.make_tensor_value_info
    free = {name: ["N" if n is None else n for n in shape] for name, shape in inputs.items()}
    graph = onnx.helper.make_graph(
        nodes, "g", [info(name, FLOAT, shape) for name, shape in free.items()],
        [info(name, FLOAT, [f"{name}{i}" for i in range(rank)]) for name, rank in outputs.items()],
        [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in dict(arrays).items()],
    )  # fmt: skip
    ids = [onnx.helper.make_opsetid("", opset)]
    return onnx.helper.make_model(graph, opset_imports=ids, ir_version=8)


def lrn():
    """LRN for the reference, whose own sums the squares of the first N channels only."""
    from onnx.reference.op_run import OpRun

    class LRN(OpRun):
        def _run(self, x, alpha, beta, bias, size):
            before, C = (size - 1) // 2, x.shape[1]
            sums = [
                np.square(x[:, max(c - before, 0) : c - before + size], dtype=np.float64).sum(1)
                for c in range(C)
            ]
            y = x / (bias + alpha / size * np.stack(sums, 1)) ** beta
            return (y.astype(x.dtype),)

    return LRN


def reference(proto, *xs):
    """What `onnx` computes, slowly, by its reference."""
    from onnx.reference import ReferenceEvaluator

    names = [given.name for given in proto.graph.input]
    evaluator = ReferenceEvaluator(proto, new_ops=[lrn()])
    return evaluator.run(None, dict(zip(names, xs, strict=True)))


def close(found, expected, tolerance=1e-5):
    """To `tolerance` of the largest number: sums in another order."""
    assert found.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * scale)
