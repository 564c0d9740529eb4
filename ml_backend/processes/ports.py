"""Ports for servers that are started as child processes."""

from __future__ import annotations

import random
import socket

PORTS = range(20_000, 30_000)
"""Below the range used for outgoing connections, so a port that is free now is still free a moment later."""


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody listens on."""
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(f"no port from {PORTS.start} to {PORTS.stop - 1} is free on {host}")
