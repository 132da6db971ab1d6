"""Types of events that the app, the ETL and operators may post, as they are on the wire.

Each type is one struct; `EVENT_TYPES` is the registry. Limits are part of the types, so that the refusal of an event
says which field is wrong and what would be right.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, cast, get_args
from uuid import UUID

import msgspec
from msgspec import Meta

from usage_service.shared.patterns import PROBE_NAME, worded

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
MOST_TEXT = 2_000  # characters
# Python's $ also matches before a last line feed, hence (?!\n).
NO_NUL = worded(r"^[^\x00]*$", "a text without NUL (\\u0000), which PostgreSQL does not store")
KEY = worded(
    r"^[a-z][a-z0-9_-]{0,31}(?!\n)$",
    "small letters, digits, _ and - after a letter, 32 at most, such as fog or nightly",
)

Instant = Annotated[datetime, Meta(tz=True, description="RFC 3339 with a zone, such as 2026-11-23T10:00:00Z")]
VisitorId = Annotated[str, Meta(min_length=1, max_length=256)]
Product = Annotated[str, Meta(pattern=KEY, description="such as fog or fenix")]
Channel = Annotated[str, Meta(pattern=KEY, description="such as nightly")]
ProbeName = Annotated[str, Meta(pattern=PROBE_NAME, description="such as gc_ms")]
Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=NO_NUL)]
Label = Annotated[str, Meta(min_length=1, max_length=200, pattern=NO_NUL)]
Text = Annotated[str, Meta(max_length=MOST_TEXT, pattern=NO_NUL)]
Owner = Annotated[
    str, Meta(min_length=1, max_length=254, pattern=NO_NUL, description="such as a team's e-mail address")
]
Link = Annotated[
    str,
    Meta(
        max_length=500,
        pattern=worded(r"^https://[^\s\x00]+(?!\n)$", "an address that begins with https:// and has no spaces"),
    ),
]
TimeUnit = Literal["nanosecond", "microsecond", "millisecond", "second", "minute", "hour", "day"]
MemoryUnit = Literal["byte", "kilobyte", "megabyte", "gigabyte"]
Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Major = Annotated[int, Meta(ge=0, le=100_000)]


class Data(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The fields that only events of one type have."""


class AppData(Data, frozen=True, kw_only=True):
    """The fields common to all events that the app reports; `addresses` names those that hold the address of a page."""

    addresses: ClassVar[frozenset[str]] = frozenset()

    bot: bool = False


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """The fields that every event has."""

    schema_version: ClassVar[int] = 1

    @classmethod
    def data_type(cls) -> type[Data]:
        """Return the struct of the type's own fields."""
        [found] = [field.type for field in msgspec.structs.fields(cls) if field.name == "data"]
        return cast(type[Data], found)

    event_id: UUID
    occurred_at: Instant
    visitor: VisitorId | None = None
    product: Product | None = None
    channel: Channel | None = None
    probe: ProbeName | None = None


class PageViewedData(AppData, frozen=True, kw_only=True):
    """A page of the app, and where the visitor came from (a host or a URL)."""

    addresses: ClassVar[frozenset[str]] = frozenset({"page", "referrer"})

    page: Annotated[str, Meta(min_length=1, max_length=MOST_TEXT, pattern=NO_NUL)]
    referrer: Text | None = None


class PageViewed(Event, frozen=True, kw_only=True, tag="page_viewed"):
    """Somebody opened a page of the app."""

    data: PageViewedData


class ProbeSearchedData(AppData, frozen=True, kw_only=True):
    """The text of a search and how many probes were found."""

    query: Text
    results: Count


class ProbeSearched(Event, frozen=True, kw_only=True, tag="probe_searched"):
    """Somebody searched for a probe."""

    data: ProbeSearchedData


class ProbeViewedData(AppData, frozen=True, kw_only=True):
    """The filters under which a probe was viewed; `found` says whether its aggregates existed."""

    found: bool
    ping_type: Name | None = None
    os: Name | None = None
    aggregation_level: Name | None = None
    versions: Annotated[list[Major], Meta(max_length=100)] | None = None


class ProbeViewed(Event, frozen=True, kw_only=True, tag="probe_viewed"):
    """Somebody viewed a probe's aggregates."""

    product: Product
    probe: ProbeName
    data: ProbeViewedData


class ControlChangedData(AppData, frozen=True, kw_only=True):
    """A control of the page and its new value."""

    control: Name
    value: Text | float | bool | None = None


class ControlChanged(Event, frozen=True, kw_only=True, tag="control_changed"):
    """Somebody changed a control, such as the operating system."""

    data: ControlChangedData


class LinkFollowedData(AppData, frozen=True, kw_only=True):
    """The tool that a link leads to."""

    addresses: ClassVar[frozenset[str]] = frozenset({"url"})

    tool: Name
    url: Text | None = None


class LinkFollowed(Event, frozen=True, kw_only=True, tag="link_followed"):
    """Somebody left for another tool."""

    data: LinkFollowedData


class ProbeRegisteredData(Data, frozen=True, kw_only=True):
    """A probe's metric type, a ping that it is sent in, the part of its definition that gives its buckets, and details.

    The four fields of a custom distribution go together; an empty list of labels means that any label may be sent.
    What follows the labels is for people to read. `expires` is a day, a version, `never` or `expired`; a `disabled`
    probe is not sent although it is in the source. The units are those of the definition: `time_unit` of times,
    `memory_unit` of sizes, and `unit` of other numbers, in any words.
    """

    type: Name
    ping: Name = "metrics"
    histogram_type: Literal["exponential", "linear"] | None = None
    range_min: Annotated[int, Meta(ge=0, le=2**40)] | None = None
    range_max: Annotated[int, Meta(ge=1, le=2**40)] | None = None
    bucket_count: Annotated[int, Meta(ge=3, le=1_000_000)] | None = None
    labels: Annotated[list[Label], Meta(max_length=4_096)] | None = None
    description: Text | None = None
    owners: Annotated[list[Owner], Meta(max_length=20)] | None = None
    expires: Name | None = None
    disabled: bool = False
    link: Link | None = None
    time_unit: TimeUnit | None = None
    memory_unit: MemoryUnit | None = None
    unit: Name | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where the fields do not go together."""
        buckets = (self.histogram_type, self.range_min, self.range_max, self.bucket_count)
        if None in buckets and any(part is not None for part in buckets):
            raise ValueError("must have histogram_type, range_min, range_max and bucket_count, or none of them")
        if self.range_min is not None and self.range_max is not None and self.range_min >= self.range_max:
            raise ValueError("must have a range_min below its range_max")
        if self.labels and len(set(self.labels)) < len(self.labels):
            raise ValueError("must have labels that differ from each other")


class ProbeRegistered(Event, frozen=True, kw_only=True, tag="probe_registered"):
    """The catalogue lists a probe; one event for each ping that the probe is sent in."""

    product: Product
    probe: ProbeName
    data: ProbeRegisteredData


class ProbeRetired(Event, frozen=True, kw_only=True, tag="probe_retired"):
    """The catalogue no longer lists a probe."""

    product: Product
    probe: ProbeName
    data: Data = Data()


class ProbeBuilt(Event, frozen=True, kw_only=True, tag="probe_built"):
    """The ETL built a probe's aggregates."""

    product: Product
    probe: ProbeName
    data: Data = Data()


class VisitorErased(Event, frozen=True, kw_only=True, tag="visitor_erased"):
    """A person asked to be forgotten: nothing links them to their events from here on. Stored without a visitor."""

    visitor: VisitorId
    data: Data = Data()


class ReleasePublishedData(Data, frozen=True, kw_only=True):
    """The major version that was released, and when, if not when the event occurred."""

    version: Major
    published_at: Instant | None = None


class ReleasePublished(Event, frozen=True, kw_only=True, tag="release_published"):
    """A channel of a product has a new version."""

    product: Product
    channel: Channel
    data: ReleasePublishedData

    def __post_init__(self) -> None:
        """Raise ValueError where the release is said to be later than the event."""
        _check_published(self.data.published_at, self.occurred_at)


class ReleaseRetractedData(Data, frozen=True, kw_only=True):
    """The major version, and the instant at which it was not released."""

    version: Major
    published_at: Instant


class ReleaseRetracted(Event, frozen=True, kw_only=True, tag="release_retracted"):
    """A channel of a product did not have a version at an instant: takes back what was said until now.

    A version counts as published at the earliest instant that stands, and as never published if none does. To publish
    at that very instant again, send a `release_published` that occurs later, with that `published_at`.
    """

    product: Product
    channel: Channel
    data: ReleaseRetractedData

    def __post_init__(self) -> None:
        """Raise ValueError where the release is said to be later than the event."""
        _check_published(self.data.published_at, self.occurred_at)


def _check_published(published_at: datetime | None, occurred_at: datetime) -> None:
    if published_at is not None and published_at > occurred_at:
        raise ValueError("must have a data.published_at that is not after its occurred_at")
    if published_at is not None and published_at < EARLIEST:
        raise ValueError(f"must have a data.published_at that is not before {EARLIEST:%Y-%m-%d}")


class RevisionPublishedData(Data, frozen=True, kw_only=True):
    """A build, and the revision of the source that it was made of."""

    build_id: Annotated[
        str,
        Meta(
            pattern=worded(r"^[0-9]{10,14}(?!\n)$", "10 to 14 digits, such as 20261119104512"),
            description="the build's time, such as 20261119104512, or its hour",
        ),
    ]
    revision: Annotated[
        str,
        Meta(
            pattern=worded(r"^[0-9a-f]{7,64}(?!\n)$", "7 to 64 hexadecimal digits in small letters"),
            description="of Mercurial or Git, in hexadecimal",
        ),
    ]


class RevisionPublished(Event, frozen=True, kw_only=True, tag="revision_published"):
    """A channel of a product has a new build; of the builds of an hour the last one counts."""

    product: Product
    channel: Channel
    data: RevisionPublishedData


class ExtensionEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event of the app's own type: stored and replayable, its data free (16 KiB at most)."""

    schema_version: ClassVar[int] = 1

    event_id: UUID
    type: Annotated[
        str, Meta(pattern=worded(r"^x_[a-z0-9_]{1,62}(?!\n)$", "x_ and then small letters, digits and _, 64 at most"))
    ]
    occurred_at: Instant
    visitor: VisitorId | None = None
    product: Product | None = None
    channel: Channel | None = None
    probe: ProbeName | None = None
    data: dict[str, Any] = {}


AnyEvent = (
    PageViewed
    | ProbeSearched
    | ProbeViewed
    | ControlChanged
    | LinkFollowed
    | ProbeRegistered
    | ProbeRetired
    | ProbeBuilt
    | VisitorErased
    | ReleasePublished
    | ReleaseRetracted
    | RevisionPublished
)
EVENT_TYPES: dict[str, type[Event]] = {str(kind.__struct_config__.tag): kind for kind in get_args(AnyEvent)}


class OwnEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that the service itself wrote, as far as its readers rely on it."""

    schema_version: ClassVar[int] = 1

    product: Text | None = None
    channel: Text | None = None
    probe: Text | None = None
    data: dict[str, Any]


class BuildData(msgspec.Struct, frozen=True):
    """The build that an event is of, by which it is found; its other fields depend on the type."""

    build_id: UUID


class BuildEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a build, as far as its readers rely on it."""

    schema_version: ClassVar[int] = 1

    product: Product
    channel: Channel
    probe: ProbeName
    data: BuildData


OWN_TYPES = frozenset(
    {
        "build_requested",
        "build_started",
        "build_progressed",
        "build_succeeded",
        "build_found_no_data",
        "build_failed",
        "build_cancelled",
        "night_ended",
        "probe_pinned",
        "probe_unpinned",
        "probe_excluded",
        "probe_included",
        "probes_hidden",
        "probes_shown",
        "events_dropped",
        "events_moved",
        "events_put_back",
    }
)
