"""Connections with time limits: a client that is too slow, or does not send HTTP, is disconnected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus

import structlog
from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import access_logger
from aiohttp.web_request import BaseRequest
from multidict import CIMultiDict, CIMultiDictProxy

from usage_service.problems import Problem
from usage_service.web.answers import problem_answer
from usage_service.web.bodies import EXPECTATION, MOST_BODY_BYTES
from usage_service.web.headers import SECURITY_HEADERS
from usage_service.web.request_metrics import REQUEST_METRICS

HEADER_SECONDS = 10.0  # from the first byte of a request to the end of its headers
WRITE_SECONDS = 60.0  # for a client to read an answer
MOST_CONNECTIONS = 5_000
DISCARD_SECONDS = 2.0  # for the rest of a body that nobody wants, of which as much is read as a body may have
SMALL_BYTES = 32 * 1024  # half of what asyncio buffers before it makes a writer wait

log = structlog.get_logger(__name__)


class Connection(web.RequestHandler):
    """One connection, with a time limit on every wait for the client."""

    __slots__ = ("_header_timer",)

    _header_timer: asyncio.TimerHandle | None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept the connection, unless there are too many."""
        self._header_timer = None
        super().connection_made(transport)
        if self._manager is not None and len(self._manager.connections) > MOST_CONNECTIONS:
            log.warning("too_many_connections", most=MOST_CONNECTIONS)
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop the timer of a connection that has ended."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass the data on; start the timer when a request has begun and its headers are not complete."""
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._stop_waiting()
        elif self._header_timer is None and self._is_idle():
            self._header_timer = self._loop.call_later(HEADER_SECONDS, self._cut_off)

    def _is_idle(self) -> bool:
        return self._waiter is not None and not self._waiter.done()

    def _cut_off(self) -> None:
        self._header_timer = None
        if self._is_idle():
            log.info("headers_too_slow", seconds=HEADER_SECONDS)
            self.force_close()

    def _stop_waiting(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    async def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer; abort the connection of a client that does not read it in time.

        What it has not sent of its body by then is read only as far as a body may be long: who is refused does not have
        the service take in gigabytes.
        """
        is_waiting = EXPECTATION in request  # for our word before it sends its body, which it has not got
        if is_waiting or (request.content_length or 0) > MOST_BODY_BYTES:
            resp.force_close()
        if self._is_taken_at_once(resp):
            sent = await super().finish_response(request, resp, start_time)
        else:
            timer = self._loop.call_later(WRITE_SECONDS, self._give_up)
            try:
                sent = await super().finish_response(request, resp, start_time)
            finally:
                timer.cancel()
        if not (is_waiting or request.content.is_eof()):
            await _discard(request.content)
        return sent

    def _is_taken_at_once(self, resp: web.StreamResponse) -> bool:
        """Return whether the answer fits into the write buffer, so that there is nothing to wait for."""
        body = resp.body if isinstance(resp, web.Response) else None
        if not isinstance(body, bytes) or len(body) > SMALL_BYTES:
            return False
        return self.transport is None or self.transport.get_write_buffer_size() == 0

    def _give_up(self) -> None:
        log.info("answer_not_taken", seconds=WRITE_SECONDS)
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer bytes that are not HTTP with a problem (400), and close the connection."""
        if status != HTTPStatus.BAD_REQUEST:
            return super().handle_error(request, status, exc, message)
        why = " ".join((message or "").split("\n")[0].split())[:200].rstrip(":") or "it cannot be read"
        answer = problem_answer(Problem(400, "Bad request", f"this is not a request of HTTP/1.1: {why}"))
        answer.headers.update(SECURITY_HEADERS)
        answer.force_close()
        return answer


async def _discard(content: StreamReader) -> None:
    """Read on while the client sends what fits into a body; its connection is closed when that was not all."""
    number = 0
    with suppress(TimeoutError, OSError, web.RequestPayloadError, HttpProcessingError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while number <= MOST_BODY_BYTES and not content.is_eof():
                number += len(await content.readany())


class Connections(web.Server):
    """Factory of connections for aiohttp."""

    def __call__(self) -> Connection:
        """Return a new connection."""
        return Connection(self, loop=self._loop, **self._kwargs)


class GuardedRunner(web.AppRunner):
    """Runner of the application on connections with time limits, which measures its requests."""

    async def _make_server(self) -> Connections:
        made = await super()._make_server()
        # `bodies` decompresses: aiohttp takes gzip that is cut short, and decompresses zip bombs to the end. What is
        # sent after the answer is read by `finish_response`: aiohttp reads for ten seconds, however much.
        options = self._kwargs | {"auto_decompress": False, "lingering_time": 0.0}
        # In place of an access log, which each connection makes for itself.
        options |= {"access_log": access_logger, "access_log_class": lambda *_: self.app[REQUEST_METRICS]}
        return Connections(made.request_handler, request_factory=_unexpecting(made.request_factory), **options)


def _unexpecting(make: Callable[..., BaseRequest]) -> Callable[..., BaseRequest]:
    """Return a factory of requests that hides the header Expect from aiohttp.

    aiohttp asks for the body before anybody has looked at the token, and answers other expectations with text/plain.
    """

    def make_request(message: RawRequestMessage, *rest: object) -> BaseRequest:
        expected = message.headers.get("Expect")
        if expected is None:
            return make(message, *rest)
        headers = CIMultiDict(message.headers)
        del headers["Expect"]
        request = make(message._replace(headers=CIMultiDictProxy(headers)), *rest)
        request[EXPECTATION] = expected
        return request

    return make_request
