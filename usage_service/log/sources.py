"""Sources of a log: the database itself and a running service. Exported files are in `exported`."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, cast
from urllib.parse import unquote, urlencode, urlsplit

import adbc_driver_manager
import pyarrow as pa
import pyarrow.compute as pc
import urllib3

from usage_service.log.arrow import END_OF_STREAM, read_begin, read_end
from usage_service.log.errors import LogAwayError, LogReadError
from usage_service.log.mirrored import MirrorPlace, read_events
from usage_service.log.reading import LogFilter, was_dropped
from usage_service.log.stored_events import LARGEST_POSITION
from usage_service.shared.connecting import connect_to
from usage_service.shared.postgres import UNAVAILABLE
from usage_service.shared.remote import LATER, does_not_answer, why_away
from usage_service.shared.service_errors import reason

ARROW = "application/vnd.apache.arrow.stream"
AWAY_STATES = ("08", "53", "57")  # SQLSTATE: lost connections, lack of resources, an operator's or a time-out's end
TIMEOUT = urllib3.Timeout(connect=5, read=30)


class Source(Protocol):
    """A source of a log. Its methods raise LogReadError."""

    def end(self) -> int:
        """Return the last position of the log."""

    def batches(self, after: int, upto: int, only: LogFilter) -> Iterator[pa.RecordBatch]:
        """Read the events after a position up to another, in order."""


@dataclass(frozen=True)
class DatabaseSource:
    """The database, read by the role that the URL names; `mirror` has what was dropped, if there is one.

    `partial`: events that were dropped may be missing.
    """

    url: str = field(repr=False)
    partial: bool = False
    mirror: MirrorPlace | None = None

    def end(self) -> int:
        """Return the last position of the log."""
        with self._errors():
            return read_end(self.url, None)

    def batches(self, after: int, upto: int, only: LogFilter) -> Iterator[pa.RecordBatch]:
        """Read ranges of the log, each by a statement of its own."""
        with self._errors():
            self._check_whole(after)
            mirror = None if self.partial else self.mirror
            yield from read_events(self.url, None, mirror, after, upto, only, None)
            self._check_whole(after)  # they may have been dropped meanwhile

    def _check_whole(self, after: int) -> None:
        if not self.partial and self.mirror is None and after + 1 < (begin := read_begin(self.url, None)):
            raise LogReadError(was_dropped(begin))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (adbc_driver_manager.Error, OSError) as error:  # OSError: when it happens between two batches
            parts = urlsplit(self.url)
            said = str(error)
            for secret in {parts.password, unquote(parts.password or "")} - {None, ""}:
                said = said.replace(cast(str, secret), "***")
            hosts = parts.netloc.rpartition("@")[2]  # there may be several
            is_away = isinstance(error, OSError) or _is_away(self.url, error.sqlstate)
            kind = LogAwayError if is_away else LogReadError
            raise kind(f"the database {hosts}{parts.path} cannot be read: {said}") from None


def _is_away(url: str, sqlstate: str | None) -> bool:
    """Return whether a database does not answer now, rather than refuse what it is asked.

    Of a connection that fails libpq tells nothing but a text, whether its server is away or the address is wrong. The
    programs' own way to connect, which other commands take, knows one from the other.
    """
    if sqlstate is not None:
        return sqlstate.startswith(AWAY_STATES)
    with ThreadPoolExecutor(1) as thread:  # an event loop may run in this one, as in a notebook
        error = thread.submit(asyncio.run, _connected(url)).exception()
    return error is None or isinstance(error, UNAVAILABLE)


async def _connected(url: str) -> None:
    connection = await connect_to(url, {})
    await connection.close()


@dataclass(frozen=True)
class ServiceSource:
    """A running service, which sends Arrow. `partial`: events that were dropped may be missing."""

    url: str
    token: str | None = field(default=None, repr=False)
    partial: bool = False

    def end(self) -> int:
        """Return the last position of the log."""
        with self._answer({"after": str(LARGEST_POSITION)}) as response:
            return int(response.headers["Log-Position"])

    def batches(self, after: int, upto: int, only: LogFilter) -> Iterator[pa.RecordBatch]:
        """Read the answer as it comes, cut off after `upto`."""
        # There are no more events than positions; where filters leave some out, later events come and are cut off.
        asked = {"after": str(after), "limit": str(upto - after)} | _parameters(only)
        asked |= {"partial": "true"} if self.partial else {}
        with self._answer(asked) as response:
            body = _Body(response)
            with pa.ipc.open_stream(body) as stream:
                for batch in stream:
                    if batch.num_rows and batch.column("position")[-1].as_py() > upto:
                        yield batch.filter(pc.field("position") <= upto)
                        return
                    yield batch
            body.check_whole()

    @contextmanager
    def _answer(self, asked: dict[str, str]) -> Iterator[urllib3.BaseHTTPResponse]:
        address = f"{self.url.rstrip('/')}/v1/events?{urlencode(asked)}"
        headers = {"Accept": ARROW} | ({"Authorization": f"Bearer {self.token}"} if self.token else {})
        with urllib3.PoolManager(timeout=TIMEOUT, retries=urllib3.Retry(2, backoff_factor=0.1)) as pool:
            try:
                response = pool.request("GET", address, headers=headers, preload_content=False)
                try:
                    if response.status != 200 or "Log-Position" not in response.headers:
                        kind = LogAwayError if response.status in LATER else LogReadError
                        raise kind(f"{self.url} answered {response.status}: {reason(response.status, response.data)}")
                    yield response
                finally:
                    response.close()
            except urllib3.exceptions.MaxRetryError as error:
                raise LogAwayError(does_not_answer(self.url, why_away(error))) from None
            except (urllib3.exceptions.HTTPError, OSError, pa.ArrowException) as error:
                raise LogAwayError(f"{self.url} cannot be read, or not to the end: {error}") from None


class _Body(io.RawIOBase):
    """A body as a file that Arrow reads, which keeps its last bytes."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response
        self._last = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; fewer than `size` only at the end."""
        piece = self._response.read(size)
        if piece:
            self._last = (self._last + piece[-len(END_OF_STREAM) :])[-len(END_OF_STREAM) :]
        return piece

    def check_whole(self) -> None:
        """Raise OSError when the stream broke off, which Arrow cannot tell from its end."""
        if self._last != END_OF_STREAM or self._response.read(1):
            raise OSError("the answer broke off")


def _parameters(only: LogFilter) -> dict[str, str]:
    given = {
        "type": ",".join(only.types or ()),
        "product": only.product,
        "visitor": only.visitor,
        "since": only.since and only.since.isoformat(),
        "until": only.until and only.until.isoformat(),
    }
    return {name: str(value) for name, value in given.items() if value}
