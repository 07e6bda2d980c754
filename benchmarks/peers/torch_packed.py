"""PyTorch's forward convolution with the weight packed once and the input as oneDNN likes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Call = Callable[[], torch.Tensor]
ROUNDS, CALLS = 4, 3


def fastest(job: dict[str, Any], arrays: dict[str, np.ndarray]) -> Call:
    """The form that takes least time in a short contest; its result may be an mkldnn tensor.

    `torch.jit.optimize_for_inference` is no form of its own: it calls what the forms call, between
    conversions from and to dense tensors.
    """
    with torch.inference_mode():
        calls = forms(job, arrays)
        least = dict.fromkeys(calls, float("inf"))
        for _ in range(ROUNDS):
            for name, call in calls.items():
                call()
                begin = time.perf_counter()
                for _ in range(CALLS):
                    call()
                least[name] = min(least[name], time.perf_counter() - begin)
    return calls[min(least, key=least.__getitem__)]


def forms(job: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Call]:
    """Calls that compute the same: channels_last, an NCHW tensor of oneDNN, and a blocked one."""
    x = torch.from_numpy(arrays["x"]).permute(0, 3, 1, 2)
    weight = torch.from_numpy(np.ascontiguousarray(arrays["weight"].transpose(3, 2, 0, 1)))
    bias = torch.from_numpy(arrays["bias"])
    sizes = [job["padding"]] * 2, [job["stride"]] * 2, [1, 1], job["groups"]
    packed = torch._C._nn.mkldnn_reorder_conv2d_weight(weight.to_mkldnn(), *sizes, list(x.shape))
    channels_last = x.contiguous(memory_format=torch.channels_last)
    plain = x.contiguous().to_mkldnn()
    # The layout of a convolution's result: blocks of channels, where oneDNN takes them.
    channels = x.shape[1]
    same = torch.eye(channels).reshape(channels, channels, 1, 1).to_mkldnn()
    blocked = torch.mkldnn_convolution(plain, same, None, [0, 0], [1, 1], [1, 1], 1)

    def of(image: torch.Tensor) -> Call:
        return inference(lambda: torch.mkldnn_convolution(image, packed, bias, *sizes))

    def inference(call: Call) -> Call:
        def run() -> torch.Tensor:
            with torch.inference_mode():
                return call()

        return run

    pointwise = torch.ops.mkldnn._convolution_pointwise
    return {
        "channels_last": inference(
            lambda: pointwise(channels_last, packed, bias, *sizes, "none", [], "")
        ),
        "plain": of(plain),
        "blocked": of(blocked),
    }
