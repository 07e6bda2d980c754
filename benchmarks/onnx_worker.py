"""From ResNet-50's ONNX file to an answer: seconds and memory, in one process; prints JSON.

python -m benchmarks.onnx_worker file.onnx threads

Memory is beyond the interpreter, its libraries and the weights: their bytes are taken away once.
`peak_mb`: the most from compiling on, beside the model. `running_mb`: the most of some answers
when the model is gone.
"""

from __future__ import annotations

import gc
import json
import sys
import time

import numpy as np

import pycnn
import pycnn.onnx
from pycnn import models

from .memory_worker import forget_peak, kilobytes


def main() -> None:
    """Import, compile, answer."""
    path, threads = sys.argv[1], int(sys.argv[2])
    pycnn.set_num_threads(threads)
    found: dict[str, float | str] = {}
    began = time.perf_counter()
    try:
        model = pycnn.onnx.import_onnx(path)
        found["import_s"] = time.perf_counter() - began
    except OSError as error:  # pycnn.FileError: an operator is missing
        found["import"] = f"left out: {error}"
        model = models.resnet50(rng=0)
    model.eval()
    gc.collect()
    weights = sum(array.nbytes for _, array in model.named_arrays()) / 2**20
    x = np.zeros((1, 224, 224, 3), np.float32)
    before = kilobytes("VmRSS") / 1024
    forget_peak()
    began = time.perf_counter()
    compiled = model.compile_inference((None, 224, 224, 3))
    found["compile_s"] = time.perf_counter() - began
    began = time.perf_counter()
    compiled(x)
    found["first_answer_s"] = time.perf_counter() - began
    found["weights_mb"] = weights
    # Another copy of the weights is what compiling is for.
    found["peak_mb"] = kilobytes("VmHWM") / 1024 - before - weights
    with_model = kilobytes("VmRSS")
    del model
    gc.collect()
    freed = (with_model - kilobytes("VmRSS")) / 1024
    forget_peak()
    for _ in range(3):
        compiled(x)
    found["running_mb"] = kilobytes("VmHWM") / 1024 - (before - freed) - weights
    print(json.dumps(found))


if __name__ == "__main__":
    main()
