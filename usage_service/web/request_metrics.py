"""Metrics of requests: how many there were by route and status, and how long they took."""

from __future__ import annotations

from typing import NamedTuple

from aiohttp import hdrs, web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.log import access_logger
from aiohttp.web_request import BaseRequest
from prometheus_client import CollectorRegistry, Counter, Histogram

from usage_service.web.headers import REQUEST_ID

# A single event takes a few milliseconds, the heaviest question half a minute at most.
ANSWER_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
# How long these take is the caller's choice.
HELD_BUCKETS = (0.1, 1, 5, 15, 30, 60, 300, 1800)
NO_ROUTE = "none"


class _Series(NamedTuple):
    """The series of one kind of request: looking them up by their labels takes longer than counting."""

    requests: Counter
    seconds: Histogram


class RequestMetrics(AbstractAccessLogger):
    """Counts requests and measures them, for as long as aiohttp has them: from their headers to the end of the answer.

    It stands in for aiohttp's access log, which hears of every request, also of those that are not HTTP. The labels are
    bounded: routes are templates, and what has none is `none`.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(access_logger, "")
        self._requests = Counter(
            "glam_http_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "glam_http_request_seconds",
            "From a request's headers to the end of its answer.",
            ["method", "route"],
            buckets=ANSWER_BUCKETS,
            registry=registry,
        )
        self._held_seconds = Histogram(
            "glam_http_held_request_seconds",
            "From a request's headers to the end of its answer, where it streams or was asked to wait.",
            ["method", "route"],
            buckets=HELD_BUCKETS,
            registry=registry,
        )
        self._series: dict[tuple[str, str, int, bool], _Series] = {}

    def log(self, request: BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Count a request that has been answered."""
        key = (request.method, _label_of(request), response.status, _is_held(request, response))
        series = self._series.get(key) or self._named(*key)
        series.requests.inc()
        series.seconds.observe(time)

    def _named(self, method: str, route: str, status: int, held: bool) -> _Series:
        known = method_of(method)
        seconds = self._held_seconds if held else self._seconds
        series = _Series(self._requests.labels(known, route, status), seconds.labels(known, route))
        if known == method:  # of the others there may be any number
            self._series[method, route, status, held] = series
        return series


REQUEST_METRICS = web.AppKey("request_metrics", RequestMetrics)


def method_of(method: str) -> str:
    """Return the method, or `_OTHER` for one that HTTP does not know."""
    return method if method in hdrs.METH_ALL else "_OTHER"


def route_of(request: web.Request) -> str | None:
    """Return the template of the request's route, such as `/v1/builds/{build_id}`; None where there is no route."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else None


def _label_of(request: BaseRequest) -> str:
    """Return the route as a label. Bytes that are not HTTP get no request id, because no handler ever sees them."""
    return (isinstance(request, web.Request) and REQUEST_ID in request and route_of(request)) or NO_ROUTE


def _is_held(request: BaseRequest, response: web.StreamResponse) -> bool:
    """Return whether the answer is a stream, or the request asks to wait (`wait=`, `at_least=`, `Prefer: wait=`)."""
    path = request.raw_path
    return (
        not isinstance(response, web.Response)
        or "Prefer" in request.headers
        or ("?" in path and ("wait=" in path or "at_least=" in path))
    )
