"""OpenVINO on files of ONNX, in float32: it would take bfloat16 where the CPU has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino

from .sizes import answer_images, file_of


def version() -> str:
    """The installed version."""
    return str(openvino.__version__).partition("-")[0]


def network(
    job: dict[str, Any], threads: int, variant: str
) -> dict[str, tuple[Callable[[], np.ndarray], Callable[[np.ndarray], np.ndarray]]]:
    """The answer of a network of an ONNX file; see `benchmarks.peers`."""
    core = openvino.Core()
    model = core.read_model(file_of(job, ".onnx"))
    images = np.ascontiguousarray(answer_images(job["batch"]).transpose(0, 3, 1, 2))
    model.reshape(list(images.shape))
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    tensor = openvino.Tensor(images, shared_memory=True)

    def answer() -> np.ndarray:
        assert images.size  # the tensor does not hold on to them
        request.set_input_tensor(tensor)
        request.infer()
        return request.get_output_tensor().data

    return {"answer": (answer, np.array)}
