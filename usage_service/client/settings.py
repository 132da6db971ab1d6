"""The settings of a client, checked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

TOKEN_VARIABLE = "USAGE_SERVICE_TOKEN"
MOST_EVENTS_A_REQUEST = 1_000  # the service takes no more


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The arguments of UsageClient. Raises ValueError for arguments that cannot work."""

    url: str
    token: str | None
    spool_dir: Path | None
    max_queue_events: int
    max_spool_bytes: int
    batch_events: int
    linger_seconds: float
    timeout: float
    retry_seconds: float
    exit_seconds: float
    durable: bool
    source: str

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("url must be http://host or https://host")
        # Not quoted in the message: it is a secret. Checked here because it would be quoted when sent.
        if self.token is not None and not _fits_a_header(self.token):
            raise ValueError(f"token (or {TOKEN_VARIABLE}) must be printable ASCII without spaces")
        if not _fits_a_header(self.source):
            raise ValueError("source must be printable ASCII without spaces")
        if not 1 <= self.batch_events <= MOST_EVENTS_A_REQUEST:
            raise ValueError(f"batch_events must be 1 to {MOST_EVENTS_A_REQUEST}")
        if min(self.timeout, self.retry_seconds) <= 0 or min(self.linger_seconds, self.exit_seconds) < 0:
            raise ValueError("timeout and retry_seconds must be above 0, linger_seconds and exit_seconds at least 0")
        if min(self.max_queue_events, self.max_spool_bytes) < 1:
            raise ValueError("max_queue_events and max_spool_bytes must be at least 1")


def token_or_variable(token: str | None) -> str | None:
    """Return the token that is given, else that of the environment, as the commands take it."""
    return os.environ.get(TOKEN_VARIABLE) or None if token is None else token


def _fits_a_header(value: str) -> bool:
    return bool(value) and value.isascii() and value.isprintable() and " " not in value
