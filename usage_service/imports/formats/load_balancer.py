"""Logs of Google Cloud's load balancers (Cloud Logging), as exported to files, or from BigQuery."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from usage_service.imports.lines import Example, Format, Line, Options, object_lines
from usage_service.imports.log_fields import client_of, instant_of_text, said, without_port
from usage_service.imports.recognition import first_objects
from usage_service.imports.refusals import Refusal, checked
from usage_service.imports.source import Source
from usage_service.imports.web_requests import RequestReader, WebRequest
from usage_service.page_addresses import host_of
from usage_service.shared.patterns import worded

NOT_A_TIME = Refusal("timestamp", "must be a time with a zone, such as 2026-11-23T10:00:00.123456Z")


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Request of an entry. Its other fields are passed over."""

    request_method: Annotated[str, Meta(description="such as `GET`")]
    request_url: Annotated[str, Meta(description="whole, or a path; the rules make events of it")]
    status: Annotated[
        Annotated[int, Meta(ge=0, le=999)]
        | Annotated[str, Meta(pattern=worded(r"^[0-9]{1,3}(?!\n)$", "a status of HTTP, such as 200"))],
        Meta(description="a text where BigQuery wrote it; 2xx: found, 404: a probe that was not found"),
    ] = 0
    remote_ip: Annotated[str | None, Meta(description="makes the `visitor`, with the agent; it is not sent")] = None
    user_agent: Annotated[str | None, Meta(description="without it a request is a bot's")] = None
    referer: Annotated[str | None, Meta(description="its host is kept")] = None


class LogEntry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Entry of a log. Its other fields are passed over; entries without a request are left out."""

    timestamp: Annotated[str, Meta(description="RFC 3339, or as BigQuery writes it: `2026-11-23 10:00:00 UTC`")]
    http_request: HttpRequest | None = None


def recognizes(head: bytes, _name: str) -> bool:
    """Return whether the first objects of a file are entries of Cloud Logging with requests."""
    return any("timestamp" in value and isinstance(value.get("httpRequest"), dict) for value in first_objects(head))


def lines(source: Source, options: Options) -> Iterator[Line]:
    """Read the entries, one a value."""
    reader = RequestReader(options)
    return object_lines(source.values(), lambda number, value: _line(number, checked(value, LogEntry), reader))


def _line(number: int, entry: LogEntry, reader: RequestReader) -> Line:
    instant = instant_of_text(entry.timestamp)
    if instant is None:
        return Line(number, [], NOT_A_TIME)
    request = entry.http_request
    if request is None:
        return Line(number, [], left_out="an entry without a request")
    visitor, bot = client_of(without_port(request.remote_ip or ""), request.user_agent or "")
    return reader.line(
        number,
        WebRequest(
            instant, request.request_url, int(request.status), request.request_method, visitor, bot,
            said(request.referer), host_of(request.request_url),
        ),
    )  # fmt: skip


EXAMPLE = Example("""\
{"httpRequest": {"requestMethod": "GET", "requestUrl": "https://glam.telemetry.mozilla.org/fog/probe/gc_ms/explore", \
"status": 200, "remoteIp": "192.0.2.1", "referer": "https://bugzilla.mozilla.org/", "latency": "0.058s", \
"userAgent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}, \
"timestamp": "2026-11-23T10:00:00.123456Z", "insertId": "1vzs264g1u90hp5", "severity": "INFO"}
{"httpRequest": {"requestMethod": "GET", "requestUrl": "https://glam.telemetry.mozilla.org/", "status": "200", \
"remoteIp": "192.0.2.1", "userAgent": "GoogleHC/1.0"}, "timestamp": "2026-11-23 10:00:01.5 UTC"}
{"httpRequest": {"requestMethod": "GET", "requestUrl": "https://glam.telemetry.mozilla.org/", "status": 502}, \
"timestamp": "2026-11-23T10:00:02Z"}
{"httpRequest": {"requestMethod": "GET", "requestUrl": "https://glam.telemetry.mozilla.org/", "status": 200}, \
"timestamp": "2026-11-23T10:00:03"}
{"httpRequest": {"requestMethod": "GET", "requestUrl": "/", "status": true}, "timestamp": "2026-11-23T10:00:04Z"}
""")
FORMAT = Format(
    "load-balancer",
    "logs of Google Cloud's load balancers, from files or BigQuery",
    recognizes,
    lines,
    (LogEntry, HttpRequest),
    EXAMPLE,
)
