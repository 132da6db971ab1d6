"""Faults of a warehouse, as BigQuery has them: requests that are answered with an error, or not at all."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler

from warehouse.api.answers import JOBS

RESET = 0
STATUSES = {
    "accessDenied": 403,
    "backendError": 503,
    "internalError": 500,
    "invalidQuery": 400,
    "jobRateLimitExceeded": 400,
    "notFound": 404,
    "quotaExceeded": 403,
    "rateLimitExceeded": 403,
    "responseTooLarge": 403,
}
INSERT, GET_JOB, GET_PAGE, CANCEL, LIST = (
    r"POST .*/jobs",
    r"GET .*/jobs/.+",
    r"GET .*/queries/.+",
    r"POST .*/jobs/.+/cancel",
    r"GET .*/jobs",
)


@dataclass
class Fault:
    """What becomes of the next `times` requests that match: BigQuery's `reason`, else a bare status, 0 for a reset.

    With `of_job` the request is answered, and the job that it shows has failed for the reason; with `loses_jobs` the
    warehouse has no jobs from then on, as one that keeps them in memory and was started again.
    """

    requests: str
    reason: str = ""
    times: int = 10**9
    message: str = "made up"
    status: int = RESET
    of_job: bool = False
    loses_jobs: bool = False
    seen: int = 0

    async def answer(self, request: web.Request, handler: Handler) -> web.Response:
        """Return the answer of the fault; a reset raises, with the connection gone."""
        self.seen += 1
        self.times -= 1
        if self.loses_jobs:
            request.app[JOBS]._jobs.clear()
        if self.of_job:
            response = await handler(request)
            assert isinstance(response, web.Response)
            assert isinstance(response.body, bytes)
            failed = {"state": "DONE", "errorResult": self.item(), "errors": [self.item()]}
            return web.json_response(json.loads(response.body) | {"status": failed})
        return self._refusal(request)

    def _refusal(self, request: web.Request) -> web.Response:
        status = STATUSES.get(self.reason, self.status)
        if status == RESET:
            if request.transport:
                request.transport.abort()
            raise ConnectionResetError
        if not self.reason:
            return web.Response(status=status, text="<html>a proxy's own page</html>", content_type="text/html")
        error = {"code": status, "message": self.message, "errors": [self.item()]}
        return web.json_response({"error": error}, status=status)

    def item(self) -> dict[str, str]:
        """Return the fault as an item of BigQuery's `errors`."""
        return {"domain": "global", "reason": self.reason, "message": self.message}


class Faults:
    """The faults of one warehouse, and the requests that it got. `middleware` goes in front of it."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self.requests: list[str] = []

    def begin(self, fault: Fault) -> Fault:
        """Begin a fault, which lasts for its `times` or until `end`."""
        self._faults.append(fault)
        return fault

    def end(self) -> None:
        """End all faults, and forget the requests."""
        self._faults.clear()
        self.requests.clear()

    def count(self, requests: str) -> int:
        """Return how many requests matched."""
        return sum(re.fullmatch(requests, request) is not None for request in self.requests)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer in place of the warehouse while a fault lasts."""
        name = f"{request.method} {request.path}"
        self.requests.append(name)
        for fault in self._faults:
            if fault.times > 0 and re.fullmatch(fault.requests, name):
                return await fault.answer(request, handler)
        return await handler(request)
