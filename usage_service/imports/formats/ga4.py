"""Google Analytics 4's export to BigQuery (`events_YYYYMMDD`): rows as `bq extract` writes them, a JSON object each."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

from usage_service.events import EARLIEST, Name, VisitorId
from usage_service.imports.lines import Example, Format, JsonObject, Line, Options, object_lines
from usage_service.imports.recognition import first_objects
from usage_service.imports.refusals import UnreadableFileError, checked, printable
from usage_service.imports.source import Source
from usage_service.imports.web_requests import RequestReader, WebRequest
from usage_service.shared.patterns import worded

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FOUND = 200  # a page that was shown; Google Analytics is not told what a server answered
# What has no single events, told by its beginning or by the fields of its objects.
REPORT = b"# ------"
TOTALS_BY_FIELDS = {
    frozenset({"dimensionHeaders", "metricHeaders"}): "is a report of Google Analytics, which has totals",
    frozenset({"visitStartTime", "totals"}): "has sessions of Universal Analytics with their totals",
    frozenset({"pseudo_user_id", "stream_id"}): "has users of Google Analytics with their totals",
}
NOT_EVENTS = (
    "{name}: {what}, and no single events. Google Analytics 4 exports these to BigQuery (tables events_YYYYMMDD): `bq"
    " extract --destination_format=NEWLINE_DELIMITED_JSON DATASET.events_YYYYMMDD gs://...`"
)


class ParameterValue(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a parameter, where it is a text."""

    string_value: str | None = None


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """Parameter of an event, of which `value.string_value` is read. Others than these are not kept.

    `page_location` and `page_referrer` of a `page_view`, `link_url`, `link_domain` and `outbound` of a `click`.
    """

    key: str
    value: ParameterValue | None = None


class AnalyticsEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Row of the table. Its other columns, such as `device`, `geo` and `user_properties`, are not kept."""

    event_name: Annotated[
        Name,
        Meta(description="`page_view`: what the rules make of its address; `click` to another site: `link_followed`"),
    ]
    event_timestamp: Annotated[
        int
        | Annotated[str, Meta(pattern=worded(r"^[0-9]{1,19}(?!\n)$", "microseconds since 1970, 19 digits at most"))],
        Meta(description="microseconds since 1970 in UTC, as a number or as text"),
    ]
    event_params: list[Parameter] = []
    user_pseudo_id: Annotated[VisitorId | None, Meta(description="becomes the `visitor`")] = None

    def text(self, key: str) -> str | None:
        """Return the text of a parameter, None where there is none."""
        return next((one.value.string_value for one in self.event_params if one.key == key and one.value), None)

    @property
    def occurred_at(self) -> str:
        """Return the instant. Raise msgspec.ValidationError where it is none of microseconds."""
        try:
            instant = EPOCH + timedelta(microseconds=int(self.event_timestamp))
        except OverflowError:
            instant = EPOCH
        if instant < EARLIEST:
            raise _wrong("event_timestamp", "must be microseconds since 1970, such as 1787738400123456")
        return instant.isoformat()


def recognizes(head: bytes, _name: str) -> bool:
    """Return whether a file is an export of Google Analytics, of events or of totals."""
    needed = {"event_name", "event_timestamp"}
    return bool(_totals(head)) or any(value.keys() >= needed for value in first_objects(head))


def lines(source: Source, options: Options) -> Iterator[Line]:
    """Read the events, one a value. Raise UnreadableFileError for a file that has totals only."""
    if what := _totals(source.head):
        raise UnreadableFileError(NOT_EVENTS.format(name=source.name, what=what))
    requests = RequestReader(options)
    return object_lines(source.values(), lambda number, value: _line(number, checked(value, AnalyticsEvent), requests))


def _totals(head: bytes) -> str | None:
    """Return what a file has in place of events, None where it may have events."""
    if head.startswith(REPORT):
        return "is a report that was saved as CSV, which has totals"
    objects = first_objects(head)
    return next(
        (what for fields, what in TOTALS_BY_FIELDS.items() if any(value.keys() >= fields for value in objects)), None
    )


def _line(number: int, event: AnalyticsEvent, requests: RequestReader) -> Line:
    if event.event_name == "page_view":
        return _page_view(number, event, requests)
    if event.event_name == "click":
        return _click(number, event)
    return Line(number, [], left_out=f"event {printable(event.event_name)}")


def _page_view(number: int, event: AnalyticsEvent, requests: RequestReader) -> Line:
    at, location, referrer = event.occurred_at, event.text("page_location"), event.text("page_referrer")
    if not location:
        raise _wrong("event_params/page_location", "is missing")
    page = WebRequest(at, location, FOUND, visitor=event.user_pseudo_id, referrer=referrer or None, is_page=True)
    return requests.line(number, page)


def _click(number: int, event: AnalyticsEvent) -> Line:
    tool = event.text("link_domain")
    if not tool or event.text("outbound") == "false":
        return Line(number, [], left_out="event click within the site")
    followed: JsonObject = {"type": "link_followed", "occurred_at": event.occurred_at}
    if event.user_pseudo_id:
        followed["visitor"] = event.user_pseudo_id
    url = event.text("link_url")
    return Line(number, [followed | {"data": {"tool": tool} | ({"url": url} if url else {})}])


def _wrong(field: str, why: str) -> msgspec.ValidationError:
    return msgspec.ValidationError(f"{why} - at `$.{field}`")


EXAMPLE = Example("""\
{"event_name": "page_view", "event_timestamp": "1787738400123456", "user_pseudo_id": "1234567890.1753000000", \
"event_params": [{"key": "page_location", "value": {"string_value": "https://glam.telemetry.mozilla.org/fog/probe/gc_ms/\
explore"}}]}
{"event_name": "click", "event_timestamp": "1787738406123456", "event_params": [\
{"key": "link_domain", "value": {"string_value": "bugzilla.mozilla.org"}}, \
{"key": "outbound", "value": {"string_value": "true"}}]}
{"event_name": "session_start", "event_timestamp": "1787738400123456"}
{"event_name": "page_view", "event_timestamp": "1787738400123"}
{"event_name": "page_view", "event_timestamp": "1787738400123456"}
""")
FORMAT = Format(
    "ga4",
    "events of Google Analytics 4, as its tables in BigQuery are extracted",
    recognizes,
    lines,
    (AnalyticsEvent, Parameter),
    EXAMPLE,
)
