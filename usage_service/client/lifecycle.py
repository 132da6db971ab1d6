"""What clients have to do when the process forks or ends."""

from __future__ import annotations

import atexit
import os
from typing import Protocol


class Mortal(Protocol):
    """A client that is in use."""

    def forked(self) -> None:
        """In the child: begin anew."""
        ...

    def exiting(self) -> None:
        """The interpreter ends: send what can be sent in a bounded time."""
        ...


_in_use: set[Mortal] = set()


def enrol(client: Mortal) -> None:
    """From now on the client is told; keeps it alive."""
    _in_use.add(client)


def dismiss(client: Mortal) -> None:
    """The client is told no more."""
    _in_use.discard(client)


def _forked() -> None:
    for client in list(_in_use):
        client.forked()


def _exiting() -> None:
    for client in list(_in_use):
        client.exiting()


os.register_at_fork(after_in_child=_forked)
atexit.register(_exiting)
