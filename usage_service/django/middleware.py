"""UsageMiddleware: records the page views and data requests of a Django app.

It goes first in MIDDLEWARE: what it reads of the session then changes no response.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import msgspec
from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from usage_service.client import UsageClient, WrongEventError
from usage_service.client.rate_limited_log import RateLimitedLog
from usage_service.django.recording import KEY, RECORDED, Recorder, read_options
from usage_service.page_addresses import host_of

MOST_BODY_BYTES = 16 * 1024

Answer = Callable[[HttpRequest], Any]


class DataQuery(msgspec.Struct, frozen=True):
    """The query of a request to GLAM's data route, in the fields that are recorded."""

    product: str | int
    probe: str | int
    app_id: str | int | None = None
    ping_type: str | int | None = None
    os: str | int | None = None
    aggregation_level: str | int | None = msgspec.field(name="aggregationLevel", default=None)
    versions: Any = None


class DataRequest(msgspec.Struct, frozen=True):
    """The body of a data request."""

    query: DataQuery


class UsageMiddleware:
    """Records `probe_viewed` for data requests and `page_viewed` for pages; a failure in it never reaches the app.

    With `STRICT`, which is `DEBUG` unless set, it raises WrongEventError for an event that the service would refuse.
    Raises ImproperlyConfigured when the app starts with settings that cannot work.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Answer) -> None:
        options = read_options()
        self._get_response = get_response
        self._data_path: str = options.get("DATA_PATH", "/api/v1/data/")
        self._ignored: tuple[str, ...] = tuple(options.get("IGNORED_PATHS", ()))
        self._log = RateLimitedLog()
        self._recorder = Recorder(options)
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    @property
    def client(self) -> UsageClient:
        """Return the client that this process records with."""
        return self._recorder.client

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Return the app's response, unchanged, and record the request."""
        request.META[KEY] = self._recorder
        if self._is_async:
            return self._answer_async(request)
        query = self._query_of(request)
        response: HttpResponseBase = self._get_response(request)
        self._record(request, query, response)
        return response

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        query = self._query_of(request)
        response: HttpResponseBase = await self._get_response(request)
        # In Django's thread for synchronous code: finding the visitor may read the database.
        await sync_to_async(self._record)(request, query, response)
        return response

    def _query_of(self, request: HttpRequest) -> DataQuery | None:
        """Return the query of a data request, or None; read before the view reads the body, which Django then keeps."""
        if request.method != "POST" or request.path != self._data_path:
            return None
        try:
            if int(request.META.get("CONTENT_LENGTH") or 0) > MOST_BODY_BYTES:
                return None
            return msgspec.json.decode(request.body, type=DataRequest).query
        except Exception as error:
            self._log.warn("data_request_unreadable", error=type(error).__name__)
            return None

    def _record(self, request: HttpRequest, query: DataQuery | None, response: HttpResponseBase) -> None:
        try:
            if query is not None:
                self._record_data(request, query, response.status_code)
            elif _is_page(request, response) and not request.path.startswith(self._ignored):
                self._record_page(request)
        except WrongEventError:  # the client is strict
            raise
        except Exception as error:
            self._log.warn("request_not_recorded", error=type(error).__name__, path=request.path)

    def _record_data(self, request: HttpRequest, query: DataQuery, status: int) -> None:
        if status not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND) or RECORDED in request.META:
            return
        data = {"found": status == HTTPStatus.OK} | _filters(query)
        self._recorder.record(
            request, "probe_viewed", data, product=query.product, channel=query.app_id, probe=query.probe
        )

    def _record_page(self, request: HttpRequest) -> None:
        data = {"page": request.path} | _referrer(request)
        self._recorder.record(request, "page_viewed", data, product=self._recorder.product_of(request))


def _is_page(request: HttpRequest, response: HttpResponseBase) -> bool:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
    return request.method == "GET" and response.status_code == HTTPStatus.OK and kind == "text/html"


def _referrer(request: HttpRequest) -> dict[str, object]:
    """Return the host that the visitor came from, if it is another one."""
    host = host_of(request.META.get("HTTP_REFERER", ""))
    return {"referrer": host} if host and host != _own_host(request) else {}


def _own_host(request: HttpRequest) -> str | None:
    try:
        return request.get_host()
    except DisallowedHost:  # which the app answers all the same where no middleware of Django's asks for it
        return None


def _filters(query: DataQuery) -> dict[str, object]:
    given = {"ping_type": query.ping_type, "os": query.os, "aggregation_level": query.aggregation_level}
    filters: dict[str, object] = {name: value for name, value in given.items() if value not in (None, "")}
    if isinstance(query.versions, list):  # GLAM may also give only their number
        filters["versions"] = query.versions
    return filters
