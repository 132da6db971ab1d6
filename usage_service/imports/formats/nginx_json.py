"""Access logs that nginx writes as JSON (`log_format ... escape=json`), an object on a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from usage_service.imports.lines import Example, Format, JsonObject, Line, Options, object_lines
from usage_service.imports.log_fields import (
    client_of,
    first_address,
    instant_of_log,
    instant_of_seconds,
    instant_of_text,
    request_of,
    said,
    without_port,
)
from usage_service.imports.recognition import first_objects
from usage_service.imports.refusals import Refusal, checked
from usage_service.imports.source import Source
from usage_service.imports.web_requests import RequestReader, WebRequest
from usage_service.shared.patterns import worded

# Names that people give to nginx's variables; the variables' own come first.
NAMES = {
    "time_iso8601": ("time_iso8601", "@timestamp", "timestamp", "time"),
    "time_local": ("time_local",),
    "msec": ("msec",),
    "request": ("request",),
    "request_method": ("request_method", "method"),
    "request_uri": ("request_uri", "uri", "url"),
    "status": ("status",),
    "remote_addr": ("remote_addr", "remote_address", "remote_ip", "client_ip", "clientip", "client"),
    "http_x_forwarded_for": ("http_x_forwarded_for", "x_forwarded_for", "xff"),
    "http_referer": ("http_referer", "http_referrer", "referer", "referrer"),
    "http_user_agent": ("http_user_agent", "user_agent", "agent"),
    "host": ("host", "http_host", "server_name", "vhost"),
}
TIMES = ("time_iso8601", "time_local", "msec")
NO_TIME = Refusal(
    "time_iso8601", "must be there with its zone, such as 2026-11-23T10:00:00+00:00; or time_local, or msec"
)
NO_REQUEST = Refusal("request_uri", "is missing; or request, with method and path in it")


class NginxRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request by nginx's names of its variables; the log may name them as told here. Other fields are passed over.

    nginx writes numbers as text, unless the format has no quotes around them: both are read. A variable without a value
    is an empty text or `-`.
    """

    time_iso8601: Annotated[str | None, Meta(description="or `@timestamp`, `timestamp`, `time`")] = None
    time_local: Annotated[str | None, Meta(description="such as `23/Nov/2026:10:00:00 +0000`")] = None
    msec: Annotated[str | float | None, Meta(description="seconds since 1970")] = None
    status: Annotated[
        Annotated[str, Meta(pattern=worded(r"^[1-5][0-9][0-9](?!\n)$", "a status of HTTP from 100 to 599"))]
        | Annotated[int, Meta(ge=100, le=599)],
        Meta(description="2xx: found, 404: a probe that was not found; others are left out"),
    ]
    request: Annotated[str | None, Meta(description="`GET /path HTTP/1.1`, instead of the next two")] = None
    request_method: Annotated[str | None, Meta(description="or `method`; `GET` if there is none")] = None
    request_uri: Annotated[str | None, Meta(description="or `uri`, `url`; the rules make events of it")] = None
    remote_addr: Annotated[
        str | None,
        Meta(description="or `remote_ip`, `client_ip`, `client`; makes the `visitor`, with the agent; it is not sent"),
    ] = None
    http_x_forwarded_for: Annotated[str | None, Meta(description="its first address goes before `remote_addr`")] = None
    http_referer: Annotated[str | None, Meta(description="or `referrer`; its host is kept")] = None
    http_user_agent: Annotated[str | None, Meta(description="or `user_agent`, `agent`; an empty one is a bot")] = None
    host: Annotated[str | None, Meta(description="or `http_host`, `server_name`; links from it are no referrers")] = (
        None
    )


def recognizes(head: bytes, _name: str) -> bool:
    """Return whether the first objects of a file are requests with nginx's names."""
    return any(
        "status" in named and named.keys() & {"request", "request_uri"} and named.keys() & set(TIMES)
        for named in map(_named, first_objects(head))
    )


def lines(source: Source, options: Options) -> Iterator[Line]:
    """Read the requests, one a value."""
    reader = RequestReader(options)
    return object_lines(
        source.values(), lambda number, value: _line(number, checked(_named(value), NginxRequest), reader)
    )


def _named(given: JsonObject) -> JsonObject:
    """Return what fields say, by the names of nginx's variables."""
    found: JsonObject = {}
    for name, names in NAMES.items():
        value = next((given[other] for other in names if given.get(other) not in (None, "", "-")), None)
        if value is not None:
            found[name] = value
    if any(name in given for name in NAMES["http_user_agent"]):  # an agent that says nothing says something
        found.setdefault("http_user_agent", "")
    return found


def _line(number: int, request: NginxRequest, reader: RequestReader) -> Line:
    instant = _instant(request)
    if instant is None:
        return Line(number, [], NO_TIME)
    if request.request_uri:
        asked = (request.request_method or "GET", request.request_uri)
    elif request.request is None:
        return Line(number, [], NO_REQUEST)
    elif (found := request_of(request.request)) is None:
        return Line(number, [], left_out="no request of HTTP")
    else:
        asked = found
    address = first_address(request.http_x_forwarded_for) or request.remote_addr or ""
    visitor, bot = client_of(address, request.http_user_agent)
    host = without_port(request.host) if request.host else None
    method, target = asked
    return reader.line(
        number,
        WebRequest(instant, target, int(request.status), method, visitor, bot, said(request.http_referer), host),
    )


def _instant(request: NginxRequest) -> str | None:
    if request.time_iso8601:
        return instant_of_text(request.time_iso8601) or instant_of_log(request.time_iso8601)
    if request.time_local:
        return instant_of_log(request.time_local)
    return instant_of_seconds(str(request.msec)) if request.msec is not None else None


EXAMPLE = Example("""\
{"time_iso8601": "2026-11-23T10:00:00+00:00", "remote_addr": "192.0.2.1", "request_method": "GET", \
"request_uri": "/fog/probe/gc_ms/explore?os=Linux", "status": "404", "http_referer": "", \
"http_user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "request_time": "0.012"}
{"time_local": "23/Nov/2026:10:00:01 +0000", "remote_addr": "192.0.2.1", "request": "GET / HTTP/2.0", "status": 200}
{"msec": "1795428002.123", "remote_addr": "192.0.2.1", "request": "GET /app.js HTTP/2.0", "status": "200"}
{"time_local": "23/Nov/2026:10:00:03", "remote_addr": "192.0.2.1", "request": "GET / HTTP/2.0", "status": "200"}
{"time_local": "23/Nov/2026:10:00:04 +0000", "remote_addr": "192.0.2.1", "request": "GET / HTTP/2.0", "status": "ok"}
""")
FORMAT = Format("nginx-json", "access logs of nginx as JSON (escape=json)", recognizes, lines, (NginxRequest,), EXAMPLE)
