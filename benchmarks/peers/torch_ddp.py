"""One process of PyTorch's DistributedDataParallel on gloo; the first prints one JSON line.

python -m benchmarks.peers.torch_ddp rank ranks meeting-file batch steps
"""

from __future__ import annotations

import json
import sys
import time

import torch
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from .torch_networks import ResNet20


def main() -> None:
    """Steps of ResNet-20 on one thread, channels_last, fused SGD with momentum."""
    rank, size = int(sys.argv[1]), int(sys.argv[2])
    batch, steps = int(sys.argv[4]), int(sys.argv[5])
    torch.set_num_threads(1)
    meeting = f"file://{sys.argv[3]}"
    torch.distributed.init_process_group("gloo", meeting, rank=rank, world_size=size)
    network = ResNet20().to(memory_format=torch.channels_last)
    model = DistributedDataParallel(network, gradient_as_bucket_view=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, fused=True)
    x = torch.rand(batch // size, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch // size,))
    seconds = []
    for _ in range(steps + 3):
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        loss.item()
        seconds.append(time.perf_counter() - began)
    if rank == 0:
        found = {"seconds": seconds[3:], "version": str(torch.__version__)}
        print(json.dumps(found), flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
