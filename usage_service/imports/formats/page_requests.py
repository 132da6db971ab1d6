"""Page requests, a JSON object each: what a program that reads a log of its own writes for us."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from usage_service.events import Channel, Instant, ProbeName, Product, Text, VisitorId
from usage_service.imports.lines import Example, Format, Line, Options, object_lines
from usage_service.imports.recognition import first_objects
from usage_service.imports.refusals import Refusal, checked
from usage_service.imports.rules import Fields
from usage_service.imports.source import Source
from usage_service.imports.web_requests import RequestReader, WebRequest
from usage_service.user_agents import is_bot

REQUIRED = frozenset({"occurred_at", "path", "status"})


class PageRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Request of a page; a `page_viewed` event and, where it is one of a probe, a `probe_viewed` event.

    Where the request does not say its probe, the rules do. A page that no rule knows is a page all the same.
    """

    occurred_at: Instant
    path: Annotated[str, Meta(min_length=1, max_length=2_000, description="without the host, begins with `/`")]
    status: Annotated[
        int, Meta(ge=100, le=599, description="2xx: found, 404: a probe that was not found; others are left out")
    ]
    method: Annotated[str, Meta(description="the rules are for `GET`")] = "GET"
    visitor: VisitorId | None = None
    product: Annotated[Product | None, Meta(description="else that of the rule, else `--product`")] = None
    channel: Annotated[Channel | None, Meta(description="else that of the rule, else `--channel`")] = None
    probe: ProbeName | None = None
    referrer: Annotated[Text | None, Meta(description="an address, whose host is kept")] = None
    referrer_host: Annotated[Text | None, Meta(description="the host itself, instead")] = None
    user_agent: Annotated[Text | None, Meta(description="tells bots, where `bot` does not")] = None
    bot: bool | None = None


def recognizes(head: bytes, _name: str) -> bool:
    """Return whether the first objects of a file are page requests."""
    return any(value.keys() >= REQUIRED and "type" not in value for value in first_objects(head))


def lines(source: Source, options: Options) -> Iterator[Line]:
    """Read the page requests, one a value."""
    reader = RequestReader(options)
    return object_lines(
        source.values(),
        lambda number, value: _line(number, checked(value, PageRequest), reader),
        PageRequest,
    )


def _line(number: int, request: PageRequest, reader: RequestReader) -> Line:
    if not request.path.startswith("/"):
        return Line(number, [], Refusal("path", "must begin with /"))
    bot = request.bot if request.bot is not None else request.user_agent is not None and is_bot(request.user_agent)
    said_host = request.referrer_host and f"//{request.referrer_host}"
    return reader.line(
        number,
        WebRequest(
            request.occurred_at.isoformat(), request.path, request.status, request.method, request.visitor, bot,
            request.referrer or said_host,
            says=Fields(product=request.product, channel=request.channel, probe=request.probe), is_page=True,
        ),
    )  # fmt: skip


EXAMPLE = Example("""\
{"occurred_at": "2026-11-23T10:00:00Z", "path": "/fog/probe/gc_ms/explore", "status": 200, "visitor": "a-browser"}
{"occurred_at": "2026-11-23T10:00:01Z", "path": "/a", "status": 404, "product": "fog", "probe": "gc_ms", "bot": true}
{"occurred_at": "2026-11-23T10:00:02Z", "path": "/", "status": 304}
{"occurred_at": "2026-11-23T10:00:03Z", "path": "/", "status": "404"}
{"occurred_at": "2026-11-23T10:00:04Z", "path": "/", "status": 200, "bot": "false"}
{"occurred_at": "2026-11-23T10:00:05Z", "path": "/", "status": 200, "agent": "curl/8.5.0"}
{"occurred_at": "2026-11-23T10:00:06Z", "path": "/"}
""")
FORMAT = Format(
    "page-requests",
    "page requests, as a program of your own writes them",
    recognizes,
    lines,
    (PageRequest,),
    EXAMPLE,
)
