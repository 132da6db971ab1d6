"""The house on one machine: what is to run, where, and the secrets it keeps."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from usage_service.shared.settings import UpSettings


@dataclass(frozen=True)
class House:
    """What is to run, and where it keeps what."""

    settings: UpSettings
    port: int
    data_dir: Path
    sample: bool

    @property
    def url(self) -> str:
        """Where the server answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def warehouse_dir(self) -> Path:
        """Where the embedded warehouse keeps its pings."""
        return self.data_dir / "warehouse"

    @cached_property
    def token(self) -> str:
        """The token for use on this machine, made once and kept in the data directory."""
        return _kept_secret(self.data_dir / "token")

    @cached_property
    def visitor_secret(self) -> str:
        """The key of the visitors' pseudonyms, made once."""
        return os.environ.get("USAGE_SERVICE_VISITOR_SECRET") or _kept_secret(self.data_dir / "visitor-secret")

    @cached_property
    def warehouse_port(self) -> int:
        """A free port for the embedded warehouse."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
        return port


def _kept_secret(path: Path) -> str:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(24) + "\n")
    return path.read_text().strip()
