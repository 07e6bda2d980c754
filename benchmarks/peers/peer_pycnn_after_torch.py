"""pycnn in a process where PyTorch came first and has run an operator; it brings a libgomp."""

from __future__ import annotations

import torch

# Large enough that PyTorch starts its threads.
torch.mm(torch.ones(512, 512), torch.ones(512, 512))

from .peer_pycnn import training  # noqa: E402, F401
from .peer_pycnn import version as pycnn_version  # noqa: E402


def version() -> str:
    """The installed versions of both."""
    return f"{pycnn_version()}, torch {torch.__version__}"
