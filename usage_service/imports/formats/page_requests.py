"""Page requests as a web server logged them, a JSON object each."""

from __future__ import annotations

from collections.abc import Iterator

from usage_service.imports.lines import Example, Format, JsonObject, Line, Options
from usage_service.imports.recognition import first_objects
from usage_service.imports.refusals import Refusal
from usage_service.imports.source import Source

FIELDS = frozenset({"occurred_at", "path", "status"})


def recognizes(head: bytes, _name: str) -> bool:
    """Return whether the first objects of a file are page requests."""
    return any(value.keys() >= FIELDS and "type" not in value for value in first_objects(head))


def lines(source: Source, _options: Options) -> Iterator[Line]:
    """Read the page requests, one a value."""
    for number, value, refusal in source.values():
        if not isinstance(value, dict):
            yield Line(number, [], refusal or Refusal(None, "must be a JSON object"))
        elif missing := FIELDS - value.keys():
            yield Line(number, [], Refusal(min(missing), "is missing"))
        else:
            yield Line(number, _visit(value))


def _visit(request: JsonObject) -> list[JsonObject]:
    """Return the events of a page request: a page view and, if it names a probe, a probe view, not found after 404."""
    common = {name: request[name] for name in ("occurred_at", "visitor", "product") if request.get(name) is not None}
    bot = {"bot": True} if request.get("bot") else {}
    page = {"page": request["path"]} | bot
    if request.get("referrer_host"):
        page["referrer"] = request["referrer_host"]
    events = [common | {"type": "page_viewed", "data": page}]
    if request.get("probe"):
        viewed = {"found": request["status"] != 404} | bot
        events.append(common | {"type": "probe_viewed", "probe": request["probe"], "data": viewed})
    return events


EXAMPLE = Example("""\
{"occurred_at": "2026-11-23T10:00:00Z", "path": "/fog/probe/gc_ms/explore", "status": 200, \
"product": "fog", "probe": "gc_ms"}
{"occurred_at": "2026-11-23T10:00:01Z", "path": "/"}
""")
FORMAT = Format(
    "page-requests", "page requests of a web server, a JSON object on a line", recognizes, lines, example=EXAMPLE
)
