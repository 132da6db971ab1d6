"""Where the commands find a running service, and the token for it."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
import typer
import urllib3

from usage_service.answers import reason
from usage_service.shared.settings import TOKEN_FILE, kept_token

DEFAULT_URL = "http://127.0.0.1:8080"

TIMEOUT = urllib3.Timeout(connect=5, read=60)

Url = Annotated[str, typer.Option(envvar="USAGE_SERVICE_URL", help="where the service is")]
Token = Annotated[str | None, typer.Option(envvar="USAGE_SERVICE_TOKEN", show_default=str(TOKEN_FILE))]


class RemoteError(Exception):
    """The service cannot be reached or does not answer; the message says which, why, and what to do."""


def ask(url: str, token: str | None, path: str, **parameters: object) -> dict[str, Any]:
    """What GET of the path answers, parameters that are None left out; raises RemoteError."""
    given = {name: msgspec.to_builtins(value) for name, value in parameters.items() if value is not None}
    address = f"{url.rstrip('/')}{path}?{urlencode(given)}"
    found = token_or_kept(token)
    headers = {"Authorization": f"Bearer {found}"} if found else {}
    try:
        with urllib3.PoolManager(timeout=TIMEOUT, retries=urllib3.Retry(2, backoff_factor=0.1)) as pool:
            response = pool.request("GET", address, headers=headers)
            if response.status != 200:
                raise RemoteError(f"{url} answered {response.status}: {reason(response.status, response.data)}")
            answer: dict[str, Any] = msgspec.json.decode(response.data, type=dict[str, Any])
    except (urllib3.exceptions.HTTPError, msgspec.DecodeError, OSError) as error:
        raise RemoteError(f"{url} cannot be asked: {error}") from None
    return answer


def token_or_kept(token: str | None) -> str | None:
    """The token given, else the one that `usage-service up` keeps in this folder, if any."""
    return kept_token() if token is None else token
