"""Any requests, written as each server writes them by a writer of its own, are read back as what they are."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import NamedTuple, cast
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.servers import rounds
from usage_service.imports.lines import NO_OPTIONS, JsonObject
from usage_service.imports.reading import format_named
from usage_service.imports.source import Source
from usage_service.user_agents import is_bot, visitor_of

PAGES = {"/": None, "/fog/probe/gc_ms/explore": "gc_ms", "/fog/probe/a.b-c/table": "a.b-c", "/app.js": None, "/x": None}


class Request(NamedTuple):
    """A request, and how it was answered."""

    at: datetime
    zone: timezone
    address: str
    user: str
    path: str
    status: int
    agent: str
    referrer: str


header = st.text(st.characters(max_codepoint=255, exclude_characters="\0"), max_size=30)
minutes = st.integers(-14 * 60, 14 * 60)
requests = st.builds(
    Request,
    at=st.datetimes(datetime(2001, 1, 1), datetime(2026, 1, 1)).map(lambda at: at.replace(microsecond=0, tzinfo=UTC)),
    zone=minutes.map(lambda number: timezone(timedelta(minutes=number))),
    address=st.ip_addresses().map(str),
    user=st.sampled_from(["-", "frank", "two words", "a [b] c"]),
    path=st.sampled_from(sorted(PAGES)),
    status=st.sampled_from([200, 206, 301, 304, 404, 500]),
    # A header that is `-` alone is written as one that is not there.
    agent=header.filter(lambda text: text != "-"),
    referrer=st.sampled_from(["", "https://bugzilla.mozilla.org/1?a=b", 'https://x.example/"\\', "nothing"]),
)


def apache(text: str) -> str:
    """Escape a header as Apache does: as C does, and what cannot be printed by its code."""
    short = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
    return "".join(short.get(one) or (one if " " <= one <= "~" else f"\\x{ord(one):02x}") for one in text) or "-"


def nginx(text: str) -> str:
    """Escape a header as nginx does: by its code."""
    return "".join(one if " " <= one <= "~" and one not in '"\\' else f"\\x{ord(one):02X}" for one in text) or "-"


def combined(escape: Callable[[str], str], prefix: str = "") -> Callable[[Request], str]:
    def write(request: Request) -> str:
        when = request.at.astimezone(request.zone).strftime("%d/%b/%Y:%H:%M:%S %z")
        return (
            f'{prefix}{request.address} - {request.user} [{when}] "GET {quote(request.path)}?os=Mac HTTP/1.1"'
            f' {request.status} 5 "{escape(request.referrer)}" "{escape(request.agent)}"'
        )

    return write


def as_json(request: Request) -> str:
    return json.dumps({
        "time_iso8601": request.at.astimezone(request.zone).isoformat(), "remote_addr": request.address,
        "request": f"GET {request.path}?os=Mac HTTP/1.1", "status": str(request.status),
        "http_referer": request.referrer, "http_user_agent": request.agent,
    })  # fmt: skip


def as_entry(request: Request) -> str:
    return json.dumps({
        "timestamp": request.at.isoformat().replace("+00:00", "Z"), "insertId": "1",
        "httpRequest": {
            "requestMethod": "GET", "requestUrl": f"https://glam.example{request.path}?os=Mac",
            "status": request.status, "userAgent": request.agent, "referer": request.referrer,
            "remoteIp": f"[{request.address}]:443" if ":" in request.address else f"{request.address}:443",
        },
    })  # fmt: skip


WRITERS: dict[str, list[Callable[[Request], str]]] = {
    "access-log": [combined(apache), combined(nginx), combined(nginx, "glam.example:443 "), combined(apache, "glam ")],
    "nginx-json": [as_json],
    "load-balancer": [as_entry],
}


def expected(request: Request) -> list[JsonObject]:
    """Reckon the events of a request, without the code that reads it."""
    probe = PAGES[request.path]
    if request.path in ("/app.js", "/x") or request.status not in (200, 206, 404):
        return []
    bot = {"bot": True} if is_bot(request.agent) else {}
    hosts = {"https://b": "bugzilla.mozilla.org", "https://x": "x.example"}
    referrer = {"referrer": host} if (host := hosts.get(request.referrer[:9])) else {}
    common: JsonObject = {"occurred_at": request.at, "visitor": visitor_of(request.address, request.agent)}
    common |= {"product": "fog"} if probe else {}
    events: list[JsonObject] = []
    if request.status != 404:
        events.append(common | {"type": "page_viewed", "data": {"page": request.path} | referrer | bot})
    if probe:
        data = {"found": request.status != 404, "os": "Mac"} | bot
        events.append(common | {"type": "probe_viewed", "probe": probe, "data": data})
    return events


def read(name: str, text: str) -> list[JsonObject]:
    raw = cast(io.BufferedReader, io.BufferedReader(io.BytesIO(text.encode())))
    events: list[JsonObject] = []
    for line in format_named(name).lines(Source(raw, "a.log", None), NO_OPTIONS):
        assert line.refusal is None
        events += [event | {"occurred_at": datetime.fromisoformat(event["occurred_at"])} for event in line.events]
    return events


@settings(max_examples=rounds(50))
@given(requests)
def test_any_request_is_read_back(request: Request) -> None:
    for name, writers in WRITERS.items():
        for write in writers:
            assert read(name, write(request) + "\n") == expected(request)


@settings(max_examples=rounds(50))
@given(st.text(max_size=80), requests)
def test_garbage_spoils_no_line_beside_it(garbage: str, request: Request) -> None:
    spoiled = garbage.replace("\n", " ").replace("\r", " ")
    good = combined(nginx)(request)
    raw = cast(io.BufferedReader, io.BufferedReader(io.BytesIO(f"{good}\n{spoiled}\n{good}\n".encode())))
    lines = {line.number: line for line in format_named("access-log").lines(Source(raw, "a.log", None), NO_OPTIONS)}
    assert lines[1].events == lines[3].events
    assert 2 not in lines or lines[2].refusal
