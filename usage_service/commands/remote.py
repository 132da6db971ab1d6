"""Where the commands find a running service, and the token for it."""

from __future__ import annotations

from typing import Annotated

import typer

from usage_service.shared.settings import TOKEN_FILE, kept_token

DEFAULT_URL = "http://127.0.0.1:8080"

Url = Annotated[str, typer.Option(envvar="USAGE_SERVICE_URL", help="where the service is")]
Token = Annotated[str | None, typer.Option(envvar="USAGE_SERVICE_TOKEN", show_default=str(TOKEN_FILE))]


def token_or_kept(token: str | None) -> str | None:
    """The token given, else the one that `usage-service up` keeps in this folder, if any."""
    return kept_token() if token is None else token
