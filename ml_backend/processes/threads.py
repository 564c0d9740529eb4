"""Environment variables that let concurrent processes share the machine's cores."""

from __future__ import annotations

import os

SHARED_CORES = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
"""Threads sleep while they wait. By default they spin, and with more threads than cores everything becomes ten to
fifty times slower."""


def training_threads() -> dict[str, str]:
    """`SHARED_CORES`, and a number of threads that leaves the server one core if there are more than two."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = str(cores if cores <= 2 else cores - 1)
    return {**SHARED_CORES, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
