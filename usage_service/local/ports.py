"""Ports for programs that are told theirs before they listen, and keep it while they are down."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_LOWEST = 15_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
# Below the ports that the kernel gives to those who ask for any one: else one of them could take it meanwhile.
_BOUND = max(int(_RANGE.read_text().split()[0]) if _RANGE.is_file() else 32_768, _LOWEST + 1_000)
_random = random.SystemRandom()  # hypothesis seeds the usual one: all workers would draw alike


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody uses and the kernel gives to nobody."""
    while True:
        port = _random.randrange(_LOWEST, _BOUND)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
