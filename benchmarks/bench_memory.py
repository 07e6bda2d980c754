"""The most memory of a training step of networks that branch, without interpreter and libraries."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any

from .peers.sizes import STEPS
from .timing import table

NETWORKS = {name: STEPS[name][0] for name in ("resnet20", "unet")}
PEERS = {"torch": "PyTorch, NCHW", "torch_channels_last": "PyTorch, channels_last"}


def measured(python: str, library: str, network: str, threads: int) -> dict[str, Any] | None:
    """What the worker prints, or None where the library is missing."""
    run = subprocess.run(
        [python, "-m", "benchmarks.memory_worker", library, network, str(threads)],
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(run.stdout.splitlines()[-1]) if run.returncode == 0 else None


def run(*, threads: int, rounds: int, peers_python: str | None) -> dict[str, Any]:
    """A row for each network and library, runs in turn; megabytes: the median of the runs."""
    contestants = [("pycnn", "pycnn", sys.executable)]
    contestants += [(key, name, peers_python or sys.executable) for key, name in PEERS.items()]
    found: dict[str, Any] = {}
    rows = []
    for network, title in NETWORKS.items():
        runs: dict[str, list[dict[str, Any]]] = {key: [] for key, _, _ in contestants}
        for _ in range(rounds):
            for key, _, python in contestants:
                result = measured(python, key, network, threads)
                if result is not None:
                    runs[key].append(result)
        ours = None
        for key, name, _ in contestants:
            if not runs[key]:
                print(f"{name}: left out, it is not installed")
                continue
            megabytes = statistics.median(result["megabytes"] for result in runs[key])
            best = min(min(result["seconds"]) for result in runs[key])
            ours = ours or (megabytes, best)
            found[f"{network} {key}"] = {"megabytes": megabytes, "seconds": best}
            ratios = f"{megabytes / ours[0]:.2f}", f"{best / ours[1]:.2f}"
            rows.append(
                [title, name, f"{megabytes:.0f}", ratios[0], f"{1e3 * best:.0f}", ratios[1]]
            )
    print(table(["training step", "library", "MB", "ratio", "min ms", "ratio"], rows))
    return found
