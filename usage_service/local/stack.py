"""The local stack: all services on one machine, their addresses, data directories and secrets."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from usage_service.local.ports import free_port
from usage_service.shared.local_services import WAREHOUSE_URL_FILE
from usage_service.shared.settings import MIRROR, PORT_FILE, TOKEN_FILE, UpSettings

LOCAL_MIRROR = "local-project.usage"


@dataclass(frozen=True)
class LocalStack:
    """The settings of a local stack: its services, their port, and the directory of all their data."""

    settings: UpSettings
    port: int
    data_dir: Path
    sample: bool
    mirrors: bool = True

    @property
    def mirror(self) -> str | None:
        """Return the dataset of the embedded warehouse that the log is mirrored to, if it is.

        A mirror in BigQuery is for `usage-service mirror`: the local stack knows nothing of its dataset.
        """
        wanted = self.mirrors and self.settings.project is None
        return os.environ.get(MIRROR, LOCAL_MIRROR) if wanted else None

    @property
    def url(self) -> str:
        """Return the URL of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def warehouse_dir(self) -> Path:
        """Return the directory of the embedded warehouse's pings."""
        return self.data_dir / "warehouse"

    @property
    def warehouse_url(self) -> str:
        """Return the URL of the embedded warehouse."""
        return f"http://127.0.0.1:{self.warehouse_port}"

    @property
    def warehouse_url_file(self) -> Path:
        """Return the file that has this URL, for commands that ask where the warehouse is."""
        return self.data_dir / WAREHOUSE_URL_FILE

    @property
    def log_dir(self) -> Path:
        """Return the directory of the services' logs."""
        return self.data_dir / "logs"

    @property
    def port_file(self) -> Path:
        """Return the file that has the server's port while it runs, for commands that ask it."""
        return self.data_dir / PORT_FILE.name

    @cached_property
    def token(self) -> str:
        """Return the operator's token, which is made once and kept in the data directory."""
        return _kept_secret(self.data_dir / TOKEN_FILE.name)

    @cached_property
    def visitor_secret(self) -> str:
        """Return the secret of the visitors' pseudonyms, which is made once and kept in the data directory."""
        return os.environ.get("USAGE_SERVICE_VISITOR_SECRET") or _kept_secret(self.data_dir / "visitor-secret")

    @cached_property
    def warehouse_port(self) -> int:
        """Return a free port for the embedded warehouse."""
        return free_port()


def _kept_secret(path: Path) -> str:
    """Return the secret in a file, which is made where there is none: whole or, on a disk that is full, not at all."""
    if not path.exists() or not path.read_text("utf-8").strip():
        partial = path.with_name(f"{path.name}.partial")
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600)
        partial.write_text(secrets.token_urlsafe(24) + "\n", "utf-8")
        partial.replace(path)
    return path.read_text("utf-8").strip()
