"""GLAM's own records of usage: what its usage call answers (`GET /api/v1/usage/`), or its table as CSV."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from usage_service.events import Channel, Major, Name, ProbeName, Product, VisitorId
from usage_service.imports.lines import Example, Format, JsonObject, Line, Options, object_lines
from usage_service.imports.recognition import columns, first_objects
from usage_service.imports.refusals import UnreadableFileError, checked
from usage_service.imports.source import Source
from usage_service.problems import NOT_JSON, not_json

PROBE_SEARCH = "PROBE_SEARCH"  # GLAM's only action: the data of a probe was requested, which is `probe_viewed` here
LEGACY = "firefox"  # the product of a query that has a channel and no product, as in GLAM
TOTALS = (
    "{name}: has the numbers of records (`total`), not the records; ask for them without `agg=count`, with"
    " `fields=timestamp,probe_name,action_type,context`"
)


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Query of the data request, which is in `context`. Fields that are not named here are not kept.

    GLAM has among them `probe`, `process` and `metric_key`.
    """

    product: Annotated[Product | None, Meta(description="`firefox` where there is none but a `channel`")] = None
    app_id: Annotated[Channel | None, Meta(description="the channel")] = None
    channel: Annotated[Channel | None, Meta(description="the channel, of legacy telemetry")] = None
    ping_type: Name | None = None
    os: Name | None = None
    aggregation_level: Annotated[Name | None, Meta(description="in `data`")] = msgspec.field(
        name="aggregationLevel", default=None
    )
    versions: Annotated[
        Annotated[list[Major], Meta(max_length=100)] | int | str | None,
        Meta(description="a list is kept; GLAM's number of versions is not"),
    ] = None
    found: Annotated[bool, Meta(description="whether there were rows: GLAM records no other views")] = True


class UsageRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Record of a request for a probe's data, which is a `probe_viewed` event. Those of other actions are left out."""

    timestamp: Annotated[str, Meta(description="ISO 8601 with a zone, such as `2026-08-26 10:00:00.5+00`")]
    probe_name: ProbeName
    action_type: str = PROBE_SEARCH
    context: Annotated[Query | None, Meta(description="as JSON; in a table as its text")] = None
    product: Annotated[Product | None, Meta(description="else that of `context`, else `--product`")] = None
    channel: Annotated[Channel | None, Meta(description="else that of `context`, else `--channel`")] = None
    tracking_id: Annotated[VisitorId | None, Meta(description="becomes the `visitor`")] = None
    id: Annotated[int | str | None, Meta(description="not kept")] = None


def recognizes(head: bytes, _name: str) -> bool:
    """Return whether a table or the first objects of a file are records of usage, or their numbers."""
    return any(
        "probe_name" in names and names & {"timestamp", "action_type", "total"}
        for names in (columns(head), *(frozenset(value) for value in first_objects(head)))
    )


def lines(source: Source, options: Options) -> Iterator[Line]:
    """Read the records, one a row or a value."""

    def read(number: int, given: JsonObject) -> Line:
        if "total" in given:
            raise UnreadableFileError(TOTALS.format(name=source.name))
        record = checked(_filled(given), UsageRecord)
        if record.action_type != PROBE_SEARCH:
            return Line(number, [], left_out=f"action_type is not {PROBE_SEARCH}")
        return Line(number, [_event(record, record.context or Query(), options)])

    values = source.rows() if "probe_name" in columns(source.head) else source.values()
    return object_lines(values, read, UsageRecord)


def _filled(given: JsonObject) -> JsonObject:
    """Return the fields that say something, the context as JSON. Raise msgspec.ValidationError."""
    filled = _said(given)
    if isinstance(context := filled.get("context"), str):
        try:
            filled["context"] = msgspec.json.decode(context)
        except NOT_JSON as error:
            raise _wrong("context", f"is {not_json(error)}") from None
    if isinstance(context := filled.get("context"), dict):
        filled["context"] = _said(context)
    return filled


def _said(given: JsonObject) -> JsonObject:
    return {name: value for name, value in given.items() if value not in (None, "")}


def _event(record: UsageRecord, query: Query, options: Options) -> JsonObject:
    product = _one("product", record.product, query.product or (query.channel and LEGACY)) or options.product
    if product is None:
        raise _wrong("product", "is not in the record; say which it is with --product")
    data = {
        "found": query.found,
        "ping_type": query.ping_type,
        "os": query.os,
        "aggregation_level": query.aggregation_level,
        "versions": query.versions if isinstance(query.versions, list) else None,
    }
    event = {
        "type": "probe_viewed",
        "occurred_at": _instant(record.timestamp).isoformat(),
        "visitor": record.tracking_id,
        "product": product,
        "channel": _one("channel", record.channel, query.app_id or query.channel) or options.channel,
        "probe": record.probe_name,
        "data": {name: value for name, value in data.items() if value is not None},
    }
    return {name: value for name, value in event.items() if value is not None}


def _one(name: str, said: str | None, in_context: str | None) -> str | None:
    if said and in_context and said != in_context:
        raise _wrong(name, f"is {said}, and in context {in_context}")
    return said or in_context


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text.removesuffix(" UTC") + "+00" if text.endswith(" UTC") else text)
        if instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise _wrong("timestamp", "must be a date and time with a zone, such as 2026-08-26 10:00:00.5+00")


def _wrong(name: str, why: str) -> msgspec.ValidationError:
    return msgspec.ValidationError(f"{why} - at `$.{name}`")


EXAMPLE = Example("""\
id,action_type,timestamp,context,tracking_id,probe_name
1,PROBE_SEARCH,2026-08-26 10:00:00.123456+00,"{""os"": ""*"", ""probe"": ""gc_ms"", ""app_id"": ""nightly"", \
""product"": ""fog"", ""versions"": 20, ""ping_type"": ""*"", ""aggregationLevel"": ""version""}",,gc_ms
2,PROBE_SEARCH,2026-08-26 10:00:00,"{""product"": ""fog""}",,gc_ms
3,PROBE_SEARCH,2026-08-26 10:00:00+00,,,gc_ms
4,PAGE_VIEW,2026-08-26 10:00:00+00,"{""product"": ""fog""}",,gc_ms
""")
FORMAT = Format(
    "glam-usage", "records of GLAM's usage call, or its table as CSV", recognizes, lines, (UsageRecord, Query), EXAMPLE
)
