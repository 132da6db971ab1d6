"""The local stack: all services on one machine, their addresses, data directories and secrets."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from usage_service.shared.settings import UpSettings


@dataclass(frozen=True)
class LocalStack:
    """The settings of a local stack: its services, their port, and the directory of all their data."""

    settings: UpSettings
    port: int
    data_dir: Path
    sample: bool

    @property
    def url(self) -> str:
        """Return the URL of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def warehouse_dir(self) -> Path:
        """Return the directory of the embedded warehouse's pings."""
        return self.data_dir / "warehouse"

    @cached_property
    def token(self) -> str:
        """Return the operator's token, which is made once and kept in the data directory."""
        return _kept_secret(self.data_dir / "token")

    @cached_property
    def visitor_secret(self) -> str:
        """Return the secret of the visitors' pseudonyms, which is made once and kept in the data directory."""
        return os.environ.get("USAGE_SERVICE_VISITOR_SECRET") or _kept_secret(self.data_dir / "visitor-secret")

    @cached_property
    def warehouse_port(self) -> int:
        """Return a free port for the embedded warehouse."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
        return port


def _kept_secret(path: Path) -> str:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(24) + "\n")
    return path.read_text().strip()
