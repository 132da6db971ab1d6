"""Where the commands find a running service, the token for it, and how they ask it."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
import urllib3

from usage_service.shared.settings import TOKEN_FILE, kept_token

DEFAULT_URL = "http://127.0.0.1:8080"
TIMEOUT = urllib3.Timeout(connect=5, read=60)

Url = Annotated[str, typer.Option(envvar="USAGE_SERVICE_URL", help="where the service is")]
Token = Annotated[str | None, typer.Option(envvar="USAGE_SERVICE_TOKEN", show_default=str(TOKEN_FILE))]


def token_or_kept(token: str | None) -> str | None:
    """The token given, else the one that `usage-service up` keeps in this folder, if any."""
    return kept_token() if token is None else token


class AnswerError(Exception):
    """The service cannot be reached or refuses; the message says why."""


def ask_service(url: str, token: str | None, method: str, place: str, body: object = None) -> bytes:
    """The body of the service's answer, all of whose requests may be sent again; raises AnswerError."""
    chosen = token_or_kept(token)
    headers = {"Authorization": f"Bearer {chosen}"} if chosen else {}
    if body is not None:
        headers["Content-Type"] = "application/json"
    sent = None if body is None else msgspec.json.encode(body)
    retries = urllib3.Retry(3, backoff_factor=0.2, allowed_methods=None, status_forcelist=(429, 503))
    with urllib3.PoolManager(timeout=TIMEOUT, retries=retries) as pool:
        try:
            response = pool.request(method, url.rstrip("/") + place, headers=headers, body=sent)
        except urllib3.exceptions.HTTPError as error:
            raise AnswerError(f"{url} does not answer ({error}); start it, or set USAGE_SERVICE_URL") from None
    if response.status >= 400:
        raise AnswerError(f"{url} answered {response.status}: {_detail(response.data)}")
    return response.data


def _detail(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body, type=dict[str, object]).get("detail"))
    except msgspec.DecodeError:
        return body[:200].decode(errors="replace")
