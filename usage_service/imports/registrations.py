"""Registrations of probes from the definitions of catalogues: of Glean's metrics, and of what came before them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from usage_service.events import NO_NUL, Label, MemoryUnit, Name, Owner, ProbeRegisteredData, TimeUnit
from usage_service.imports.lines import JsonObject, Line, Options
from usage_service.imports.refusals import Refusal, UnreadableFileError, checked, refusal_of

MOST_DESCRIPTION = 2_000
MOST_OWNERS = 20
MOST_UNIT = 100
DICTIONARY = "https://dictionary.telemetry.mozilla.org/apps/{app}/metrics/{name}"
# GLAM's names of Glean's apps, where they differ; Glean's are with underscores or dashes.
PRODUCTS = {"firefox_desktop": "fog", "firefox_android": "fenix"}
APPS = {"fog": "firefox_desktop", "fenix": "fenix"}
DEFAULT_PINGS = ("default",)  # the ping that Glean chooses

Expiry = Annotated[str, Meta(min_length=1, max_length=100, pattern=NO_NUL)] | int
METRIC = re.compile(r"[A-Za-z0-9_.-]{1,200}")


class Dates(msgspec.Struct, frozen=True):
    """The first and the last commit that had a definition, in UTC."""

    first: datetime
    last: datetime

    def __post_init__(self) -> None:
        """Raise ValueError where a date is none of this century."""
        if not all(2000 <= at.year <= 2100 for at in (self.first, self.last)):
            raise ValueError("must have dates from 2000 to 2100")


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a Glean metric's definition; what else it has is passed over."""

    type: Name
    description: Annotated[str | None, Meta(description="its first 2,000 characters are kept")] = None
    labels: Annotated[list[Label] | None, Meta(description="none, of a labeled metric: any may be sent")] = None
    send_in_pings: Annotated[
        Annotated[list[Name], Meta(max_length=100)] | None,
        Meta(description="`default`, or none: `metrics`, of an event `events`"),
    ] = None
    notification_emails: Annotated[list[Owner] | None, Meta(description="the first 20 are kept as owners")] = None
    expires: Annotated[Expiry | None, Meta(description="a day, a version, `never` or `expired`")] = None
    disabled: Annotated[bool, Meta(description="not sent although it is in the source")] = False
    time_unit: TimeUnit | None = None
    memory_unit: MemoryUnit | None = None
    unit: Annotated[str | None, Meta(description="its first 100 characters are kept")] = None
    histogram_type: Literal["exponential", "linear"] | None = None
    range_min: int | None = None
    range_max: int | None = None
    bucket_count: int | None = None

    @property
    def pings(self) -> list[str]:
        """Return the pings that the metric is sent in, with Glean's choice by its name."""
        chosen = "events" if self.type == "event" else "metrics"
        return list(
            dict.fromkeys(chosen if ping == "default" else ping for ping in self.send_in_pings or DEFAULT_PINGS)
        )


def product_of(app: str, options: Options, file: str) -> str:
    """Return the product that an app of Glean is to GLAM. Raise UnreadableFileError where `--product` is another."""
    known = app.replace("-", "_")
    product = PRODUCTS.get(known, known)
    if options.product not in (None, product):
        raise UnreadableFileError(
            f"{file}: is of {app}, which is {product} and not {options.product} as --product says"
        )
    return product


def asked_product(options: Options, file: str) -> str:
    """Return the product that `--product` names. Raise UnreadableFileError where it names none."""
    if options.product is None:
        raise UnreadableFileError(
            f"{file}: does not say of which product its probes are; say it, such as --product fog"
        )
    return options.product


def in_utc(at: datetime) -> datetime:
    """Return an instant, which is in UTC unless it says otherwise."""
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def entry_lines(number: int, name: str, read: Callable[[], list[JsonObject]]) -> Iterator[Line]:
    """Read an entry: a line for each event, so that one that was recorded before is known whatever else is new."""
    try:
        yield from [Line(number, [event]) for event in read()]
    except msgspec.ValidationError as error:
        yield entry_refused(number, name, error)


def entry_refused(number: int, name: str, error: msgspec.ValidationError) -> Line:
    """Return the refusal of an entry, with its name before the field."""
    wrong = refusal_of(error)
    return Line(number, [], Refusal(wrong.field, wrong.reason, name))


def registrations(product: str, metric: str, definition: Definition, at: datetime | None) -> list[JsonObject]:
    """Return an event for each ping of a metric. Raise msgspec.ValidationError where a value is beyond its limit."""
    probe = probe_name(metric)
    common = details(definition) | buckets(definition)
    if app := APPS.get(product):
        common["link"] = DICTIONARY.format(app=app, name=probe)
    return [
        registration(product, probe, {"type": definition.type, "ping": ping} | common, at) for ping in definition.pings
    ]


def registration(product: str, probe: str, data: JsonObject, at: datetime | None) -> JsonObject:
    """Return the event that registers a probe, at its time if that is known."""
    checked(data, ProbeRegisteredData)
    return event("probe_registered", product, probe, at) | {"data": data}


def retirement(product: str, metric: str, at: datetime | None) -> JsonObject:
    """Return the event that retires a probe, at its time if that is known."""
    return event("probe_retired", product, probe_name(metric), at) | {"data": {}}


def event(kind: str, product: str, probe: str, at: datetime | None) -> JsonObject:
    """Return an event of a probe without its data."""
    made: JsonObject = {"type": kind, "product": product, "probe": probe}
    return made | {"occurred_at": in_utc(at).isoformat()} if at else made


def probe_name(metric: str) -> str:
    """Return GLAM's name of a metric. Raise msgspec.ValidationError where it is none."""
    if not METRIC.fullmatch(metric):
        raise msgspec.ValidationError("is no name of a metric, such as javascript.gc.total_time")
    return metric.replace(".", "_")


def details(definition: Definition) -> JsonObject:
    """Return what people read of a metric, within its limits."""
    text = (definition.description or "").strip()
    found = {
        "description": text if len(text) <= MOST_DESCRIPTION else text[: MOST_DESCRIPTION - 1] + "…",
        "owners": list(dict.fromkeys(definition.notification_emails or []))[:MOST_OWNERS],
        "expires": str(definition.expires) if definition.expires is not None else None,
        "disabled": definition.disabled,
        "time_unit": definition.time_unit,
        "memory_unit": definition.memory_unit,
        "unit": (definition.unit or "").strip()[:MOST_UNIT],
    }
    return {name: value for name, value in found.items() if value}


def buckets(definition: Definition) -> JsonObject:
    """Return what gives a metric its buckets: its labels, and the range of a custom distribution."""
    found: JsonObject = {}
    if definition.type.startswith("labeled_"):
        found["labels"] = list(dict.fromkeys(definition.labels or []))
    if definition.type.endswith("custom_distribution"):
        found |= {
            "histogram_type": definition.histogram_type,
            "range_min": 1 if definition.range_min is None else definition.range_min,
            "range_max": definition.range_max,
            "bucket_count": definition.bucket_count,
        }
    return found
