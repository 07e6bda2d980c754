"""Writes what all contestants of the section `networks` begin with, in a process of its own.

python -m benchmarks.peers.torch_export folder step:resnet20 answer:vgg11 ...

For each its arrays as safetensors, and for an answer the network as ONNX, with any batch; then one
line of JSON: what failed, by name. Normalisation gets the statistics of a random batch.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import torch
from safetensors.torch import save_file

from . import torch_networks
from .sizes import file_of


def export(job: dict[str, Any]) -> None:
    """One network."""
    torch.manual_seed(0)
    answer = job["what"] == "answer"
    net = torch_networks.imagenet(job["network"]) if answer else torch_networks.make(job["network"])
    if answer:
        calibrate(net)
        x = torch.zeros(1, 3, 224, 224)
        names: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"]}
        names["dynamic_axes"] = {"x": {0: "N"}, "y": {0: "N"}}
        torch.onnx.export(net, (x,), file_of(job, ".onnx"), dynamo=False, **names)
    arrays = {name: array.contiguous() for name, array in net.state_dict().items()}
    save_file(arrays, file_of(job, ".safetensors"))


def calibrate(net: torch.nn.Module) -> None:
    """Statistics of a batch, so that answers keep their size; then eval mode."""
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean of all batches, here of one
    if norms:
        with torch.no_grad():
            net.train()(torch.randn(4, 3, 224, 224))
    net.eval()


def main() -> None:
    """Export all that the arguments name."""
    warnings.simplefilter("ignore")
    folder, failed = sys.argv[1], {}
    for word in sys.argv[2:]:
        what, _, network = word.partition(":")
        try:
            export({"folder": folder, "what": what, "network": network})
        except Exception as error:
            failed[word] = f"{type(error).__name__}: {error}".partition("\n")[0]
    print(json.dumps(failed))


if __name__ == "__main__":
    main()
