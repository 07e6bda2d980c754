"""PyTorch, eager: channels_last or NCHW, fused Adam. The pool's SAME (7 -> 4) is ceil_mode."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from . import torch_packed
from .network import nchw_parameters
from .torch_networks import network as network
from .torch_recipe import recipe as recipe


def version() -> str:
    """The installed version."""
    return str(torch.__version__)


def training(
    parameters: list[np.ndarray], images: np.ndarray, labels: np.ndarray, threads: int, variant: str
) -> Callable[[int], float]:
    """One step of Adam a call; see `benchmarks.peers`."""
    torch.set_num_threads(threads)
    values = [value.requires_grad_() for value in _parameters(parameters, variant)]
    inputs = _images(images, variant)
    targets = [torch.from_numpy(batch.astype(np.int64)) for batch in labels]
    optimizer = torch.optim.Adam(values, lr=1e-3, fused=True)

    def step(i: int) -> float:
        optimizer.zero_grad(set_to_none=True)
        logits = _forward(values, inputs[i % len(inputs)], variant)
        loss = F.cross_entropy(logits, targets[i % len(targets)])
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def inference(
    parameters: list[np.ndarray], images: np.ndarray, threads: int, variant: str
) -> Callable[[int], np.ndarray]:
    """One forward a call, in inference mode; see `benchmarks.peers`."""
    torch.set_num_threads(threads)
    values = _parameters(parameters, variant)
    inputs = _images(images, variant)

    def forward(i: int) -> np.ndarray:
        with torch.inference_mode():
            return _forward(values, inputs[i % len(inputs)], variant).numpy()

    return forward


def convolution(
    job: dict[str, Any], arrays: dict[str, np.ndarray], threads: int, variant: str
) -> dict[str, tuple[Callable[[], torch.Tensor], Callable[[torch.Tensor], np.ndarray]]]:
    """The three directions of one convolution, channels_last; see `benchmarks.peers`.

    variant "packed": forward alone, as oneDNN likes it best.
    """
    torch.set_num_threads(threads)
    if variant == "packed":
        return {"forward": (torch_packed.fastest(job, arrays), _nhwc)}
    x, dy = (_images([arrays[name]], "channels_last")[0] for name in ("x", "dy"))
    weight = torch.from_numpy(np.ascontiguousarray(arrays["weight"].transpose(3, 2, 0, 1)))
    weight = weight.contiguous(memory_format=torch.channels_last)
    bias = torch.from_numpy(arrays["bias"])
    stride, padding, dilation = [job["stride"]] * 2, [job["padding"]] * 2, [1, 1]
    options = (stride, padding, dilation, False, [0, 0], job["groups"])

    def forward() -> torch.Tensor:
        return torch.ops.aten.convolution(x, weight, bias, *options)

    def backward(wanted: int) -> torch.Tensor:
        # What autograd calls, with one gradient wanted. `None`: the sizes of a bias without one.
        mask = [wanted == i for i in range(3)]
        return torch.ops.aten.convolution_backward(dy, x, weight, None, *options, mask)[wanted]

    return {
        "forward": (forward, _nhwc),
        "backward_input": (partial(backward, 0), _nhwc),
        "backward_weight": (partial(backward, 1), lambda dw: dw.numpy().transpose(2, 3, 1, 0)),
    }


def _nhwc(y: torch.Tensor) -> np.ndarray:
    return y.to_dense().numpy().transpose(0, 2, 3, 1)


def _forward(values: list[torch.Tensor], x: torch.Tensor, variant: str) -> torch.Tensor:
    for i in (0, 2, 4):
        x = F.relu(F.conv2d(x, values[i], values[i + 1], padding=1))
        x = F.max_pool2d(x, 2, ceil_mode=True)
    if variant == "channels_last":
        x = x.permute(0, 2, 3, 1)  # a view; W5 is in this order
    return F.linear(x.reshape(x.shape[0], -1), values[6], values[7])


def _parameters(parameters: list[np.ndarray], variant: str) -> list[torch.Tensor]:
    values = [torch.from_numpy(value.copy()) for value in nchw_parameters(parameters)]
    if variant == "channels_last":
        for i in (0, 2, 4):
            values[i] = values[i].contiguous(memory_format=torch.channels_last)
        values[6] = torch.from_numpy(np.ascontiguousarray(parameters[6].T))
    return values


def _images(images: np.ndarray, variant: str) -> list[torch.Tensor]:
    layout = torch.channels_last if variant == "channels_last" else torch.contiguous_format
    return [
        torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=layout) for x in images
    ]
