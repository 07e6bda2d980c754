"""Memory and time of a few training steps, in a process of its own; prints one JSON line.

python -m benchmarks.memory_worker pycnn|torch|torch_channels_last resnet20|unet threads
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .peers.sizes import STEPS

CALLS = 4


def kilobytes(field: str) -> int:
    """A field of /proc/self/status: VmRSS, the memory of now, or VmHWM, the most there was."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


def forget_peak() -> None:
    """Let VmHWM begin again from VmRSS."""
    Path("/proc/self/clear_refs").write_text("5")


def pycnn_step(name: str, threads: int) -> Callable[[], None]:
    import pycnn
    from pycnn import losses, optim

    from .networks import make

    pycnn.set_num_threads(threads)
    shape = STEPS[name][1]
    model = make(name)
    optimizer = optim.Adam(model.parameters())
    rng = np.random.default_rng(0)
    x = rng.random(shape, np.float32)
    loss_of = losses.SoftmaxCrossEntropy()
    labels = rng.integers(0, 2, shape[0] if name == "resnet20" else shape[0] * shape[1] * shape[2])

    def step() -> None:
        y = model.forward(x)
        _, dy = loss_of(y.reshape(-1, y.shape[-1]), labels)
        optimizer.zero_grad()
        model.backward(dy.reshape(y.shape), input_gradient=False)
        optimizer.step()

    return step


def torch_step(name: str, threads: int, channels_last: bool) -> Callable[[], None]:
    import torch
    from torch.nn import functional as F

    from .peers.torch_networks import make

    torch.set_num_threads(threads)
    N, H, W, C = STEPS[name][1]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = make(name).to(memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters())
    x = torch.rand(N, C, H, W).to(memory_format=layout)
    labels = torch.randint(0, 2, (N,) if name == "resnet20" else (N, H, W))

    def step() -> None:
        loss = F.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def main() -> None:
    library, name, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if library == "pycnn":
        import pycnn
        import pycnn.optim  # noqa: F401
    else:
        import torch  # noqa: F401
    before = kilobytes("VmRSS")
    forget_peak()
    if library == "pycnn":
        step = pycnn_step(name, threads)
    else:
        step = torch_step(name, threads, library.endswith("channels_last"))
    seconds = []
    for _ in range(CALLS):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    megabytes = (kilobytes("VmHWM") - before) / 1024
    print(json.dumps({"megabytes": megabytes, "seconds": seconds}))


if __name__ == "__main__":
    main()
