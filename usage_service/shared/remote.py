"""Requests of both programs' commands to a running service."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlencode

import msgspec
import urllib3

from usage_service.shared.errors import AwayError, UserError
from usage_service.shared.service_errors import reason
from usage_service.shared.settings import TOKEN_FILE, kept_token

TIMEOUT = urllib3.Timeout(connect=5, read=60)
LATER = frozenset({429, 500, 502, 503, 504})  # answers of a service that may do better later


class RemoteError(UserError):
    """The service refuses, or is none; the message says which, why, and what to do. `status` is that of its answer."""

    def __init__(self, said: str, status: int | None = None) -> None:
        super().__init__(said)
        self.status = status


class RemoteAwayError(RemoteError, AwayError):
    """The service cannot be reached, or cannot answer now."""

    exit_code = AwayError.exit_code


def ask(url: str, token: str | None, path: str, **parameters: object) -> dict[str, Any]:
    """Return the answer to GET of a path, parameters that are None left out; raise RemoteError."""
    given = {name: msgspec.to_builtins(value) for name, value in parameters.items() if value is not None}
    body = send(url, token, "GET", f"{path}?{urlencode(given)}")
    try:
        return _Answer(url, msgspec.json.decode(body, type=dict[str, Any]))
    except msgspec.DecodeError as error:
        raise RemoteError(f"{url} is not a usage service: {error}") from None


class _Answer(dict[str, Any]):
    """An answer, of which each key that is asked for must be there: else another server has answered."""

    def __init__(self, url: str, answered: dict[str, Any]) -> None:
        super().__init__(answered)
        self._url = url

    def __missing__(self, key: str) -> NoReturn:
        raise RemoteError(f"{self._url} is not a usage service: it answers without {key}")


def send(url: str, token: str | None, method: str, place: str, body: object = None) -> bytes:
    """Send a request that may be sent again and return the answer's body; raise RemoteError."""
    chosen = token_or_kept(token)
    headers = {"Authorization": f"Bearer {chosen}"} if chosen else {}
    headers |= {} if body is None else {"Content-Type": "application/json"}
    sent = None if body is None else msgspec.json.encode(body)
    retries = urllib3.Retry(
        3, backoff_factor=0.2, allowed_methods=None, status_forcelist=(429, 503), raise_on_status=False
    )
    try:
        with urllib3.PoolManager(timeout=TIMEOUT, retries=retries) as pool:
            response = pool.request(method, url.rstrip("/") + place, headers=headers, body=sent)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise RemoteAwayError(does_not_answer(url, why_away(error))) from None
    if response.status >= 400:
        kind = RemoteAwayError if response.status in LATER else RemoteError
        said = f"{url} answered {response.status}: {reason(response.status, response.data)}"
        raise kind(said, response.status)
    return response.data


def does_not_answer(url: str, why: str) -> str:
    """Return what every command says of a service that it does not reach."""
    return f"{url} does not answer ({why}); start it, or name another with --url"


def why_away(error: Exception) -> str:
    """Return why a request by urllib3 got no answer at its last try, without the connection as programmers see it."""
    said = str(getattr(error, "reason", None) or error)
    return said.partition("): ")[2] or said or type(error).__name__


def token_or_kept(token: str | None, file: Path = TOKEN_FILE) -> str | None:
    """Return the token given, else the one that `usage-service up` keeps in a file, if any."""
    return kept_token(file) if token is None else token
