"""Files of probe-scraper (https://probeinfo.telemetry.mozilla.org): Glean's metrics, and the probes of Firefox before.

A metric is registered when it first appeared and when its last definition did; one that left the source is retired
when it was last seen there. The Glean files do not name their app; the file's name may.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from itertools import chain

import msgspec

from usage_service.events import Name, Owner
from usage_service.imports.lines import Example, Format, JsonObject, Line, Options
from usage_service.imports.refusals import UnreadableFileError, checked
from usage_service.imports.registrations import (
    Dates,
    Definition,
    Expiry,
    asked_product,
    details,
    entry_lines,
    entry_refused,
    in_utc,
    probe_name,
    product_of,
    registration,
    registrations,
    retirement,
)
from usage_service.imports.source import Source

GLEAN = re.compile(rb'\s*\{\s*"[^"\\]{1,200}"\s*:\s*\{\s*"(history|in-source|name|type)"\s*:')
LEGACY = re.compile(rb'\s*\{\s*"(histogram|scalar|event)/')
APP_IN_NAME = re.compile(r"(firefox[-_](desktop|android)|fenix)(?![a-z])")
NO_PROBES = "events of before Glean are no probes of GLAM"


class Dated(msgspec.Struct, frozen=True, kw_only=True):
    """When a metric had a definition."""

    dates: Dates


class GleanDefinition(Definition, frozen=True, kw_only=True):
    """One of the definitions that a metric had: its first and its last are registered."""

    dates: Dates


class GleanMetric(msgspec.Struct, frozen=True, kw_only=True):
    """A metric with all definitions that it had."""

    history: list[Dated]
    in_source: bool = msgspec.field(name="in-source", default=True)

    def __post_init__(self) -> None:
        """Raise ValueError where it had no definition."""
        if not self.history:
            raise ValueError("must have a history")


class LegacyDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """One of the definitions that a probe had on a channel."""

    class Details(msgspec.Struct, frozen=True, kw_only=True):
        """What depends on the type."""

        kind: Name | None = None
        keyed: bool = False

    class Versions(msgspec.Struct, frozen=True, kw_only=True):
        """The first and the last version that had it."""

        last: str = "0"

    description: str | None = None
    details: Details = Details()
    expiry_version: Expiry | None = None
    notification_emails: list[Owner] | None = None
    versions: Versions = Versions()


class LegacyProbe(msgspec.Struct, frozen=True, kw_only=True):
    """A histogram, scalar or event of Firefox before Glean, by channel."""

    name: str
    type: Name
    history: dict[str, list[LegacyDefinition]]
    first_added: dict[str, datetime] = {}

    def __post_init__(self) -> None:
        """Raise ValueError where it had no definition."""
        if not any(self.history.values()):
            raise ValueError("must have a history")
        if not all(2000 <= at.year <= 2100 for at in self.first_added.values()):
            raise ValueError("must have dates from 2000 to 2100")

    @property
    def latest(self) -> LegacyDefinition:
        """Return the definition of the latest version, on any channel."""
        return max(chain.from_iterable(self.history.values()), key=lambda one: _major(one.versions.last))

    @property
    def kind(self) -> str:
        """Return what GLAM calls its type, such as histogram-exponential or keyed-scalar-uint."""
        details = self.latest.details
        return "-".join(filter(None, ["keyed" if details.keyed else None, self.type, details.kind]))


def recognizes(head: bytes, _name: str) -> bool:
    """Return whether a file that begins so is of probe-scraper."""
    return bool(GLEAN.match(head) or LEGACY.match(head))


def lines(source: Source, options: Options) -> Iterator[Line]:
    """Read the probes, an entry each."""
    document = source.document()
    if not isinstance(document, dict):
        raise UnreadableFileError(f"{source.name}: must be an object of probes by their names")
    if LEGACY.match(source.head):
        product, read = product_of("firefox", options, source.name), _legacy
    else:
        product, read = _product(source.name, options), _glean
    for number, (name, value) in enumerate(document.items(), 1):
        try:
            yield from read(number, product, name, value)
        except msgspec.ValidationError as error:
            yield entry_refused(number, name, error)


def _product(name: str, options: Options) -> str:
    app = APP_IN_NAME.search(name.lower())
    return product_of(app[1], options, name) if app else asked_product(options, name)


def _glean(number: int, product: str, name: str, value: JsonObject) -> Iterator[Line]:
    """Read a metric; its first definition may be wrong where its last one is not. Raise msgspec.ValidationError."""
    metric = checked(value, GleanMetric)
    order = sorted(range(len(metric.history)), key=lambda index: in_utc(metric.history[index].dates.first))
    for index in dict.fromkeys((order[0], order[-1])):
        read = partial(_definition, product, name, value["history"][index])
        yield from entry_lines(number, f"{name}/history/{index}", read)
    if not metric.in_source:
        last_seen = max(in_utc(one.dates.last) for one in metric.history)
        yield Line(number, [retirement(product, name, last_seen)])


def _definition(product: str, name: str, value: JsonObject) -> list[JsonObject]:
    definition = checked(value, GleanDefinition)
    return registrations(product, name, definition, in_utc(definition.dates.first))


def _legacy(number: int, product: str, name: str, value: JsonObject) -> Iterator[Line]:
    """Read a probe. Raise msgspec.ValidationError."""
    probe = checked(value, LegacyProbe)
    if probe.type == "event":
        yield Line(number, [], left_out=NO_PROBES)
        return
    last = probe.latest
    kept = Definition(
        type=probe.kind,
        description=last.description,
        notification_emails=last.notification_emails,
        expires=last.expiry_version,
    )
    at = min(map(in_utc, probe.first_added.values()), default=None)
    data = {"type": probe.kind, "ping": "main"} | details(kept)
    yield Line(number, [registration(product, probe_name(probe.name or name).lower(), data, at)])


def _major(version: str) -> int:
    found = re.match(r"[0-9]{1,6}", version)
    return int(found[0]) if found else 0


EXAMPLE = Example(
    """\
{
  "javascript.gc.total_time": {
    "history": [{
      "dates": {"first": "2023-01-10 00:23:04", "last": "2026-06-02 10:00:00"},
      "type": "timing_distribution",
      "send_in_pings": ["metrics"],
      "expires": "never"
    }],
    "in-source": true
  },
  "javascript.gc.reason": {"history": []}
}
""",
    "firefox-desktop-metrics.json",
)
FORMAT = Format(
    "probe-scraper",
    "probe-scraper's metrics of an app, or probes of Firefox",
    recognizes,
    lines,
    (GleanMetric, GleanDefinition, LegacyProbe, LegacyDefinition),
    EXAMPLE,
)
