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
from usage_service.client.meaning import as_data
from usage_service.client.rate_limited_log import RateLimitedLog
from usage_service.django.recording import KEY, RECORDED, Recorder, read_options, why_not
from usage_service.events import Channel, Count, ProbeName, ProbeViewedData, Product
from usage_service.page_addresses import host_of, page_of

MOST_BODY_BYTES = 16 * 1024

Answer = Callable[[HttpRequest], Any]


class DataQuery(msgspec.Struct, frozen=True):
    """The query of a request to GLAM's data route, in the fields that are recorded.

    Without the first two it is of no probe; of the others each may be anything, and is left out where it is no filter.
    """

    product: Product
    probe: ProbeName | Count
    app_id: Any = None
    ping_type: Any = None
    os: Any = None
    aggregation_level: Any = msgspec.field(name="aggregationLevel", default=None)
    versions: Any = None


FILTERS = {
    field.name: field.type
    for field in msgspec.structs.fields(ProbeViewedData)
    if field.name in DataQuery.__struct_fields__
}


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
        channel = None if why_not(query.app_id, Channel) else query.app_id
        self._recorder.record(request, "probe_viewed", data, product=query.product, channel=channel, probe=query.probe)

    def _record_page(self, request: HttpRequest) -> None:
        data = {"page": page_of(request.path)} | _referrer(request)
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
    """Return the filters that were given; GLAM may give only the number of versions, which is none."""
    given = as_data("probe_viewed", {name: getattr(query, name) for name in FILTERS}) or {}
    return {name: value for name, value in given.items() if value is not None and not why_not(value, FILTERS[name])}
