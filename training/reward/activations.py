"""Storage for the frozen layers' activations: in memory if they fit a budget, else in a memory-mapped file.

The file occupies page cache, which the system reclaims when it needs memory; it is written once and read in full every
epoch. It is unlinked as soon as it is mapped, so a crash leaves nothing behind.
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
        tokens: number of activations.
        hidden_size: numbers in each.
        dtype: their format.
        memory_mb: the most MiB to keep in memory.
        folder: where to put the file; None keeps everything in memory.
    """
    size = tokens * hidden_size
    if folder is None or size * dtype.itemsize <= memory_mb * _MIB:
        return torch.empty(tokens, hidden_size, dtype=dtype)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="activations-") as file:
        return torch.from_file(file.name, shared=True, size=size, dtype=dtype).view(tokens, hidden_size)
