"""How processes that compute side by side share the machine's cores: variables of their environment."""

from __future__ import annotations

import os

SHARED_CORES = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
"""Threads that wait for each other sleep. By default they spin, and with more such threads than cores everything
becomes ten to fifty times slower."""


def training_threads() -> dict[str, str]:
    """`SHARED_CORES`, and where there are more than two cores one is left to the server."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = str(cores if cores <= 2 else cores - 1)
    return {**SHARED_CORES, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
