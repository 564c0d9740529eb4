"""Room for the frozen layers' activations: in memory while they fit a budget, else in a memory-mapped file.

What lies in the file costs page cache, which the system takes back when it needs memory; it is written once, and every
epoch reads all of it. The file has no name any more once it is mapped, so that nothing is left behind by a crash.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor

_MIB = 2**20


def activation_room(
    tokens: int, hidden_size: int, dtype: torch.dtype, *, memory_mb: int, folder: Path | None
) -> Tensor:
    """An uninitialised tensor (tokens, hidden_size) on the CPU.

    Args:
        tokens: how many activations there are.
        hidden_size: of how many numbers each.
        dtype: their format.
        memory_mb: up to how many MiB may be in memory.
        folder: where the file may go; None keeps everything in memory.
    """
    size = tokens * hidden_size
    if folder is None or size * dtype.itemsize <= memory_mb * _MIB:
        return torch.empty(tokens, hidden_size, dtype=dtype)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="activations-") as file:
        return torch.from_file(file.name, shared=True, size=size, dtype=dtype).view(tokens, hidden_size)
