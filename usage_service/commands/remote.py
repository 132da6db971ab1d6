"""Where the commands find a running service, and the token for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_TOKEN_FILE = Path("data/token")

Url = Annotated[str, typer.Option(envvar="USAGE_SERVICE_URL", help="where the service is")]
Token = Annotated[str | None, typer.Option(envvar="USAGE_SERVICE_TOKEN", show_default=str(DEFAULT_TOKEN_FILE))]


def token_or_kept(token: str | None) -> str | None:
    """The token given, else the one that `usage-service up` keeps in this folder, if any."""
    if token is None and DEFAULT_TOKEN_FILE.exists():
        return DEFAULT_TOKEN_FILE.read_text("utf-8").strip()
    return token
