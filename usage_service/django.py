"""UsageMiddleware: records the page views and data requests of a Django app.

Settings: `USAGE_SERVICE = {"URL": ...}`, the other keys as in `OPTIONS` below. It goes first in MIDDLEWARE: what it
reads of the session then changes no response.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string

from usage_service.client import UsageClient, WrongEventError
from usage_service.client.rate_limited_log import RateLimitedLog

MOST_BODY_BYTES = 16 * 1024
MOST_VISITOR_CHARACTERS = 256
BOT = re.compile(
    r"(?<!cu)bot\b|bot[/;_-]|crawl|spider|slurp|headless|monitor|^(curl|wget|python|go-http|java)\b", re.IGNORECASE
)
OPTIONS = frozenset(
    {
        "URL",
        "TOKEN",
        "SPOOL_DIR",
        "PRODUCT",
        "DATA_PATH",
        "IGNORED_PATHS",
        "VISITOR",
        "IS_BOT",
        "STRICT",
        "CLIENT_OPTIONS",
    }
)

Answer = Callable[[HttpRequest], Any]
Visitor = Callable[[HttpRequest], str | int | UUID | None]
Given = TypeVar("Given", bound=Callable[[HttpRequest], object])


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


def user_or_session(request: HttpRequest) -> str:
    """Return the visitor: the user's key, else the session's, else address and user agent.

    The service makes a pseudonym of it. Loads the session and the user when the request names a session: two look-ups
    where the view did not need them.
    """
    session = getattr(request, "session", None)
    if session is None or not session.session_key:
        return address_and_agent(request)
    user = getattr(request, "user", None)
    if user is not None and user.is_authenticated:
        return f"user {user.pk}"
    return f"session {session.session_key}"


def address_and_agent(request: HttpRequest) -> str:
    """Return the visitor as far as the request alone tells: address and user agent."""
    return f"{request.META.get('REMOTE_ADDR', '')} {_agent(request)}"


def is_bot(request: HttpRequest) -> bool:
    """Return whether the user agent is missing or names a program."""
    agent = _agent(request)
    return not agent or BOT.search(agent) is not None


def _agent(request: HttpRequest) -> str:
    return str(request.META.get("HTTP_USER_AGENT", ""))


class UsageMiddleware:
    """Records `probe_viewed` for data requests and `page_viewed` for pages; a failure in it never reaches the app.

    With `STRICT`, which is `DEBUG` unless set, it raises WrongEventError for an event that the service would refuse.
    Raises ImproperlyConfigured when the app starts with settings that cannot work.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Answer) -> None:
        options = _options()
        self._get_response = get_response
        self._product: str | None = options.get("PRODUCT")
        self._data_path: str = options.get("DATA_PATH", "/api/v1/data/")
        self._ignored: tuple[str, ...] = tuple(options.get("IGNORED_PATHS", ()))
        self._visitor: Visitor = _named(options.get("VISITOR", user_or_session))
        self._is_bot: Callable[[HttpRequest], bool] = _named(options.get("IS_BOT", is_bot))
        self._log = RateLimitedLog()
        self.client = _client(options)
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Return the app's response, unchanged, and record the request."""
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
        if status not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
            return
        data = self._common(request) | {"found": status == HTTPStatus.OK} | _filters(query)
        self.client.record(
            "probe_viewed",
            visitor=self._visitor_of(request),
            product=query.product,
            channel=query.app_id,
            probe=query.probe,
            data=data,
        )

    def _record_page(self, request: HttpRequest) -> None:
        data = self._common(request) | {"page": request.path} | _referrer(request)
        self.client.record("page_viewed", visitor=self._visitor_of(request), product=self._product, data=data)

    def _common(self, request: HttpRequest) -> dict[str, object]:
        return {"bot": True} if self._is_bot(request) else {}

    def _visitor_of(self, request: HttpRequest) -> str | int | UUID | None:
        visitor = self._visitor(request)
        return visitor[:MOST_VISITOR_CHARACTERS] or None if isinstance(visitor, str) else visitor


def _is_page(request: HttpRequest, response: HttpResponseBase) -> bool:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
    return request.method == "GET" and response.status_code == HTTPStatus.OK and kind == "text/html"


def _referrer(request: HttpRequest) -> dict[str, object]:
    """Return the host that the visitor came from, if it is another one."""
    host = urlsplit(request.META.get("HTTP_REFERER", "")).netloc.rpartition("@")[2]
    return {"referrer": host} if host and host != request.get_host() else {}


def _filters(query: DataQuery) -> dict[str, object]:
    given = {"ping_type": query.ping_type, "os": query.os, "aggregation_level": query.aggregation_level}
    filters: dict[str, object] = {name: value for name, value in given.items() if value not in (None, "")}
    if isinstance(query.versions, list):  # GLAM may also give only their number
        filters["versions"] = query.versions
    return filters


def _options() -> dict[str, Any]:
    options = getattr(settings, "USAGE_SERVICE", None)
    if not isinstance(options, dict) or "URL" not in options:
        raise ImproperlyConfigured('USAGE_SERVICE must be a dict with at least "URL"')
    if unknown := options.keys() - OPTIONS:
        names = ", ".join(sorted(map(str, unknown)))
        raise ImproperlyConfigured(f"USAGE_SERVICE does not know {names}; there are {', '.join(sorted(OPTIONS))}")
    return options


def _named(given: Given | str) -> Given:
    """Return the function itself, or the one that a dotted path names."""
    found: Given = import_string(given) if isinstance(given, str) else given
    return found


def _client(options: dict[str, Any]) -> UsageClient:
    spool_dir = options.get("SPOOL_DIR")
    try:
        return UsageClient(
            options["URL"],
            options.get("TOKEN"),
            spool_dir=Path(spool_dir) if spool_dir else None,
            strict=options.get("STRICT", settings.DEBUG),
            **options.get("CLIENT_OPTIONS", {}),
        )
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"USAGE_SERVICE: {error}") from None
