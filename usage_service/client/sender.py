"""A request to the service, and the meaning of its answer."""

from __future__ import annotations

import codecs
import gzip
import time
from datetime import UTC, datetime

import msgspec
import urllib3
from urllib3.exceptions import HTTPError, InvalidHeader

SMALLEST_PACKED = 1024  # below, gzip saves nothing worth its time
MOST_ANSWER_BYTES = 8 * 1024 * 1024
LONGEST_RETRY_AFTER = 300.0
SPLITTABLE = frozenset({400, 413, 422})
TRANSIENT = frozenset({408, 425, 429})
MENDS = {
    401: ": give the client a token= of the service, or set USAGE_SERVICE_TOKEN",
    403: ": the token needs the scope events",
    404: ": the URL is not that of a usage service",
}


class TryAgainError(Exception):
    """The events may or may not have been recorded; sending them again is safe, `after` so many seconds at least."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


class MisconfiguredError(TryAgainError):
    """The URL or the token is wrong: only a person can mend it."""


class NotTakenError(Exception):
    """The service refuses the request as a whole for its content; a smaller part of it may be accepted."""


class ItemError(msgspec.Struct, frozen=True):
    """The reason why an event was refused, and a JSON pointer to the field."""

    detail: str = ""
    pointer: str | None = None


class Item(msgspec.Struct, frozen=True):
    """The outcome of one event: its status, and its error if it was refused."""

    status: str
    event_id: str | None = None
    error: ItemError | None = None


class _Answer(msgspec.Struct, frozen=True):
    events: list[Item]


class _Problem(msgspec.Struct, frozen=True):
    detail: str = ""


# Connecting loads this codec. Loaded by the thread instead, it would be missing for good in a child forked meanwhile.
codecs.lookup("idna")

_answer = msgspec.json.Decoder(_Answer)
_problem = msgspec.json.Decoder(_Problem)


class Sender:
    """Posts events over one connection that it keeps open; for one thread only."""

    def __init__(self, url: str, token: str | None, timeout: float, source: str) -> None:
        self._url = f"{url.rstrip('/')}/v1/events"
        self._timeout = timeout
        self._headers = {"Content-Type": "application/json", "User-Agent": f"usage-client {source}"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._pool = urllib3.PoolManager(
            num_pools=1, maxsize=1, retries=False, timeout=urllib3.Timeout(connect=timeout, read=timeout)
        )

    def post(self, lines: list[bytes]) -> list[Item]:
        """Post the events and return the outcome of each, in order. Raise TryAgainError or NotTakenError."""
        try:
            response = self._request(lines)
            try:
                body = self._read(response)
            finally:
                response.close()
        except (HTTPError, OSError) as error:
            # The name only: an error's text may quote what was sent.
            raise TryAgainError(type(error).__name__) from error
        return _outcomes(response.status, response.headers.get("Retry-After"), body, len(lines))

    def close(self) -> None:
        """Close the connection."""
        self._pool.clear()

    def _request(self, lines: list[bytes]) -> urllib3.BaseHTTPResponse:
        body, headers = _envelope(lines), self._headers
        if len(body) > SMALLEST_PACKED:
            body, headers = gzip.compress(body, 5, mtime=0), headers | {"Content-Encoding": "gzip"}
        # Never redirected: the token is for this host only.
        return self._pool.request(
            "POST", self._url, body=body, headers=headers, redirect=False, retries=False, preload_content=False
        )

    def _read(self, response: urllib3.BaseHTTPResponse) -> bytes:
        # The time-out of a connection is for each read; an answer that trickles is given one time-out in all.
        deadline = time.monotonic() + self._timeout
        body = bytearray()
        for chunk in response.stream(64 * 1024):
            body += chunk
            if time.monotonic() > deadline:
                raise TimeoutError
            if len(body) > MOST_ANSWER_BYTES:
                raise TryAgainError("the answer is too long")
        return bytes(body)


def _envelope(lines: list[bytes]) -> bytes:
    sent_at = datetime.now(UTC).isoformat().encode()
    return b'{"sent_at":"%b","events":[%b]}' % (sent_at, b",".join(lines))


def _outcomes(status: int, retry_after: str | None, body: bytes, sent: int) -> list[Item]:
    if status in (200, 201, 207, 422):
        items = _items(body)
        if items is not None and len(items) == sent:
            return items
    if status in SPLITTABLE:
        raise NotTakenError(f"answered {status}: {_detail(body)}")
    if status in TRANSIENT or status >= 500 or status < 300:  # 2xx: cut short, or not from the service
        raise TryAgainError(f"answered {status}", _seconds(retry_after))
    raise MisconfiguredError(f"answered {status}{MENDS.get(status, '')}", _seconds(retry_after))


def _items(body: bytes) -> list[Item] | None:
    try:
        return _answer.decode(body).events
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _detail(body: bytes) -> str:
    try:
        return _problem.decode(body).detail
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "no reason given"


def _seconds(retry_after: str | None) -> float | None:
    if retry_after is None:
        return None
    try:
        seconds = urllib3.Retry().parse_retry_after(retry_after)
    except (InvalidHeader, ValueError, OverflowError):
        return None
    return min(seconds, LONGEST_RETRY_AFTER)
