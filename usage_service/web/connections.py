"""Connections that cost nothing but what they are used for: who dawdles or sends what is not HTTP is cut off."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.web_request import BaseRequest

from usage_service.problems import Problem
from usage_service.web.answers import problem_answer
from usage_service.web.headers import HEADERS

HEADER_SECONDS = 10.0  # from the first byte of a request to the end of its headers
WRITE_SECONDS = 60.0  # for an answer to be taken
MOST_CONNECTIONS = 5_000
SMALL_BYTES = 32 * 1024  # half of what asyncio buffers before it makes a writer wait

log = structlog.get_logger(__name__)


class Connection(web.RequestHandler):
    """One connection, with a bound on every wait that the other side decides about."""

    __slots__ = ("_cut",)

    _cut: asyncio.TimerHandle | None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes it, unless there are too many."""
        self._cut = None
        super().connection_made(transport)
        if self._manager is not None and len(self._manager.connections) > MOST_CONNECTIONS:
            log.warning("too_many_connections", most=MOST_CONNECTIONS)
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nothing more to wait for."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Passes it on; begins to count when a request has begun and its headers are not all there."""
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._stop_waiting()
        elif self._cut is None and self._is_idle():
            self._cut = self._loop.call_later(HEADER_SECONDS, self._cut_off)

    def _is_idle(self) -> bool:
        return self._waiter is not None and not self._waiter.done()

    def _cut_off(self) -> None:
        self._cut = None
        if self._is_idle():
            log.info("headers_too_slow", seconds=HEADER_SECONDS)
            self.force_close()

    def _stop_waiting(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None

    async def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Sends the answer; who does not take it in time is not waited for."""
        if self._is_taken_at_once(resp):
            return await super().finish_response(request, resp, start_time)
        timer = self._loop.call_later(WRITE_SECONDS, self._give_up)
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            timer.cancel()

    def _is_taken_at_once(self, resp: web.StreamResponse) -> bool:
        """Whether it fits into the buffer, so that nobody is waited for."""
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
        """What is not HTTP is answered as everything else is that is wrong, and the connection closed."""
        if status != HTTPStatus.BAD_REQUEST:
            return super().handle_error(request, status, exc, message)
        why = " ".join((message or "").split("\n")[0].split()).rstrip(":") or "it cannot be read"
        answer = problem_answer(Problem(400, "Bad request", f"this is not a request of HTTP/1.1: {why}"))
        answer.headers.update(HEADERS)
        answer.force_close()
        return answer


class Connections(web.Server):
    """Makes them, with what aiohttp is to know of them."""

    def __call__(self) -> Connection:
        """One more."""
        return Connection(self, loop=self._loop, **self._kwargs)


class GuardedRunner(web.AppRunner):
    """Runs the application on such connections."""

    async def _make_server(self) -> Connections:
        made = await super()._make_server()
        # Bodies are unpacked where they are read: aiohttp takes gzip that is cut short, and unpacks bombs to the end.
        options = self._kwargs | {"auto_decompress": False}
        return Connections(made.request_handler, request_factory=made.request_factory, **options)
