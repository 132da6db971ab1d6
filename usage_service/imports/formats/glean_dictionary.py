"""Files of the Glean Dictionary: the index of an app (data/<app>/index.json), and a metric of it (metrics/*.json).

An index tells neither pings nor labels: its metrics are registered for the ping that Glean chooses by default.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial

import msgspec

from usage_service.events import Product
from usage_service.imports.lines import Example, Format, JsonObject, Line, Options
from usage_service.imports.refusals import UnreadableFileError, checked, refusal_of
from usage_service.imports.registrations import Dates, Definition, entry_lines, product_of, registrations, retirement
from usage_service.imports.source import Source

APPS = {"Firefox for Desktop": "firefox_desktop", "Firefox for Android": "fenix"}  # by their names for people


class DictionaryMetric(Definition, frozen=True, kw_only=True):
    """A metric in an index, or on a page of its own; `expires` is null where it never does."""

    name: str
    in_source: bool = True
    dates: Dates | None = None


class MetricPage(msgspec.Struct, frozen=True, kw_only=True):
    """The app of a metric that has a page of its own."""

    canonical_app_name: str


class AppIndex(msgspec.Struct, frozen=True, kw_only=True):
    """An app, and its metrics."""

    app_name: Product
    metrics: list[object]


def recognizes(head: bytes, _name: str) -> bool:
    """Return whether a file that begins so is of the Glean Dictionary."""
    is_index = b'"app_name"' in head and b'"app_ids"' in head
    is_metric = b'"canonical_app_name"' in head and b'"send_in_pings"' in head
    return head.lstrip().startswith(b"{") and (is_index or is_metric)


def lines(source: Source, options: Options) -> Iterator[Line]:
    """Read the metrics, an entry each."""
    document = source.document()
    try:
        is_index = isinstance(document, dict) and "metrics" in document
        index = checked(document, AppIndex) if is_index else _index_of_one(document, options, source.name)
    except msgspec.ValidationError as error:
        raise UnreadableFileError(f"{source.name}: {refusal_of(error)}") from None
    product = product_of(index.app_name, options, source.name)
    for number, metric in enumerate(index.metrics, 1):
        name = metric.get("name") if isinstance(metric, dict) else None
        yield from entry_lines(number, str(name or number), partial(_events, product, metric, options.as_of))


def _index_of_one(document: object, options: Options, file: str) -> AppIndex:
    page = checked(document, MetricPage)
    app = APPS.get(page.canonical_app_name, options.product)
    if app is None:
        raise UnreadableFileError(f"{file}: is of {page.canonical_app_name[:100]}; say which --product that is")
    return AppIndex(app_name=app, metrics=[document])


def _events(product: str, value: object, as_of: datetime | None) -> list[JsonObject]:
    metric = checked(value, DictionaryMetric)
    definition = msgspec.structs.replace(metric, expires="never") if metric.expires is None else metric
    first, last = (metric.dates.first, metric.dates.last) if metric.dates else (as_of, as_of)
    events = registrations(product, metric.name, definition, first)
    return events if metric.in_source else [*events, retirement(product, metric.name, last)]


EXAMPLE = Example("""\
{
  "app_name": "fenix",
  "app_ids": [{"name": "org.mozilla.fenix", "channel": "nightly"}],
  "metrics": [
    {"name": "search.default.engine", "type": "string", "in_source": true, "expires": null},
    {"name": "search.default.url", "type": 7}
  ]
}
""")
FORMAT = Format(
    "glean-dictionary",
    "the Glean Dictionary's index of an app, or a metric of it",
    recognizes,
    lines,
    (DictionaryMetric,),
    EXAMPLE,
)
