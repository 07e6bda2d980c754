"""ONNX Runtime: the lecture's network as an ONNX graph (NCHW), others from files; no training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from .network import nchw_parameters
from .sizes import answer_images, file_of


def version() -> str:
    """The installed version."""
    return str(onnxruntime.__version__)


def inference(
    parameters: list[np.ndarray], images: np.ndarray, threads: int, variant: str
) -> Callable[[int], np.ndarray]:
    """One forward a call; see `benchmarks.peers`."""
    model = _model(nchw_parameters(parameters), batch=images.shape[1])
    session = _session(model, threads, images.shape[1])
    # One channel: NHWC and NCHW are the same bytes.
    inputs = [batch.reshape(-1, 1, 28, 28) for batch in images]
    return lambda i: session.run(None, {"x": inputs[i % len(inputs)]})[0]


def network(
    job: dict[str, Any], threads: int, variant: str
) -> dict[str, tuple[Callable[[], np.ndarray], Callable[[np.ndarray], np.ndarray]]]:
    """The answer of a network of an ONNX file; see `benchmarks.peers`."""
    session = _session(file_of(job, ".onnx"), threads, job["batch"])
    images = np.ascontiguousarray(answer_images(job["batch"]).transpose(0, 3, 1, 2))
    return {"answer": (lambda: session.run(None, {"x": images})[0], np.asarray)}


def _session(model: bytes | str, threads: int, batch: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_free_dimension_override_by_name("N", batch)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _model(parameters: list[np.ndarray], batch: int) -> bytes:
    nodes, last = [], "x"
    for i in (0, 2, 4):
        nodes += [
            helper.make_node(
                "Conv", [last, f"p{i}", f"p{i + 1}"], [f"conv{i}"],
                kernel_shape=[3, 3], auto_pad="SAME_UPPER",
            ),
            helper.make_node("Relu", [f"conv{i}"], [f"relu{i}"]),
            helper.make_node(
                "MaxPool", [f"relu{i}"], [f"pool{i}"],
                kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER",
            ),
        ]  # fmt: skip
        last = f"pool{i}"
    nodes += [
        helper.make_node("Flatten", [last], ["flat"]),
        helper.make_node("Gemm", ["flat", "p6", "p7"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "mnist_cnn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 10])],
        [numpy_helper.from_array(value, f"p{i}") for i, value in enumerate(parameters)],
    )
    # Old enough for every ONNX Runtime of the last years; nothing here needs more.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()
