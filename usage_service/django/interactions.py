"""Views for what people do in the browser: one takes its events, the other has the script that sends them.

An event comes as a beacon of the app's own pages. Anybody may send one, so each is checked as the service would, and is
never said to be of somebody else: the visitor is whoever makes the request.
"""

from __future__ import annotations

import threading
import time
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

import msgspec
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from usage_service.client import WrongEventError
from usage_service.client.rate_limited_log import RateLimitedLog
from usage_service.django.recording import Recorder, recorder_of
from usage_service.events import EVENT_TYPES, Channel, ProbeName, Product
from usage_service.limits import Limits
from usage_service.problems import NOT_JSON, field_error, not_json

MOST_BYTES = 8 * 1024
CONTENT_TYPES = frozenset({"text/plain", "application/json"})  # sendBeacon and fetch send a text as text/plain
VISITOR_PER_SECOND = 3
PROCESS_PER_SECOND = 100  # however many visitors somebody pretends to be
SCRIPT_SECONDS = 3_600
ALL = ""

_visitors, _process = Limits(VISITOR_PER_SECOND), Limits(PROCESS_PER_SECOND)
_limits_lock = threading.Lock()
_log = RateLimitedLog()


class Interaction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An event as a page of the app sends it."""

    type: Literal["control_changed", "link_followed", "page_viewed", "probe_searched"]
    data: dict[str, Any]
    product: Product | None = None
    channel: Channel | None = None
    probe: ProbeName | None = None


class RefusedError(Exception):
    """An interaction is not taken; the message says why and what would be."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers or {}


@csrf_exempt  # a beacon has no header for a token: the Origin is checked instead
@require_POST
def record_interaction(request: HttpRequest) -> HttpResponse:
    """Record an event that one of the app's own pages sends, and answer 204; it never fails for lack of a service."""
    recorder = recorder_of(request)
    try:
        _check_origin(request)
        _check_limits(recorder, request)
        event = _decode(_body(request))
    except RefusedError as error:
        return HttpResponse(str(error), status=error.status, headers=error.headers, content_type="text/plain")
    _record(recorder, request, event)
    return HttpResponse(status=HTTPStatus.NO_CONTENT)


@require_safe
@cache_control(max_age=SCRIPT_SECONDS)
def get_script(request: HttpRequest) -> HttpResponse:
    """Get the script that sends what happens on a page to the view beside it."""
    return HttpResponse(_script(), content_type="text/javascript; charset=utf-8")


@cache
def _script() -> bytes:
    return Path(__file__).with_name("interactions.js").read_bytes()


def _check_origin(request: HttpRequest) -> None:
    """Refuse what no page of the app sent. CSRF_TRUSTED_ORIGINS are the app's, too, as they are for Django itself."""
    own = f"{request.scheme}://{request.get_host()}"
    if request.headers.get("Origin") not in {own, *settings.CSRF_TRUSTED_ORIGINS}:
        raise RefusedError(
            HTTPStatus.FORBIDDEN,
            f"Origin must be {own}. Behind a proxy set SECURE_PROXY_SSL_HEADER, or name the origin in"
            " CSRF_TRUSTED_ORIGINS",
        )


def _check_limits(recorder: Recorder, request: HttpRequest) -> None:
    visitor = str(_visitor_of(recorder, request))
    with _limits_lock:
        now = time.monotonic()
        seconds = _visitors.take(visitor, now).retry_seconds or _process.take(ALL, now).retry_seconds
    if seconds:
        raise RefusedError(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"more than {VISITOR_PER_SECOND} interactions a second; try again in {seconds} s",
            {"Retry-After": str(seconds)},
        )


def _visitor_of(recorder: Recorder, request: HttpRequest) -> object:
    """Return the visitor; all of those for whom the app's own function fails are one."""
    try:
        return recorder.visitor_of(request)
    except Exception:
        return None


def _body(request: HttpRequest) -> bytes:
    kind = request.content_type or ""
    if kind not in CONTENT_TYPES:
        raise RefusedError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Content-Type must be one of {', '.join(sorted(CONTENT_TYPES))}"
        )
    body: bytes = request.read(MOST_BYTES + 1)
    if len(body) > MOST_BYTES:
        raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body must have at most {MOST_BYTES} bytes")
    return body


def _decode(body: bytes) -> Interaction:
    """Return the event of a body; raise RefusedError that names the field."""
    try:
        event = msgspec.json.decode(body, type=Interaction)
        data = EVENT_TYPES[event.type].data_type()
    except msgspec.ValidationError as error:
        raise _wrong(error, "", Interaction) from None
    except NOT_JSON as error:
        raise RefusedError(HTTPStatus.BAD_REQUEST, not_json(error)) from None
    try:
        msgspec.convert(event.data, data)
    except msgspec.ValidationError as error:
        raise _wrong(error, "/data", data) from None
    return event


def _wrong(error: msgspec.ValidationError, below: str, kind: type[msgspec.Struct]) -> RefusedError:
    wrong = field_error(error, kind)
    return RefusedError(HTTPStatus.BAD_REQUEST, f"{below}{wrong.pointer or ''}: {wrong.detail}")


def _record(recorder: Recorder, request: HttpRequest, event: Interaction) -> None:
    try:
        product = event.product or recorder.product_of(request)
        recorder.record(request, event.type, event.data, product=product, channel=event.channel, probe=event.probe)
    except WrongEventError:  # the client is strict
        raise
    except Exception as error:
        _log.warn("interaction_not_recorded", error=type(error).__name__, type=event.type)
