"""A probe to build, and what comes of it."""

from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple, Protocol
from uuid import UUID

from builder.aggregates.build_hour import build_hour_to_datetime
from builder.aggregates.definition import Definition

ANY = "*"

Progress = Callable[[str, int, int], None]
"""Told (stage, percent, bytes read); raises BuildCancelledError or BuildAbandonedError to stop the build."""


@dataclass(frozen=True)
class BuildRequest:
    """One build: the probe, its type and the pings that carry it, as of a day.

    `latest_version` is the newest released on the channel; None asks the pings themselves.
    """

    build_id: UUID
    product: str
    channel: str
    probe: str
    metric_type: str
    pings: tuple[str, ...]
    run_date: date
    latest_version: int | None
    definition: Definition = field(default_factory=Definition)


@dataclass(frozen=True)
class ProbeRow:
    """The aggregates of one combination. The last four texts are JSON objects, keys in numeric order."""

    version: int
    ping_type: str
    os: str
    app_build_id: str
    metric_type: str
    metric_key: str
    client_agg_type: str
    total_users: int
    total_sample: int
    histogram: str
    percentiles: str
    non_norm_histogram: str
    non_norm_percentiles: str
    build_date: datetime | None


class Rows(Sized, Iterable[ProbeRow], Protocol):
    """A number of rows that can be gone through again and again; they may be made anew each time."""


@dataclass(frozen=True)
class BuiltProbe:
    """The rows, none where too few clients sent the probe, and what they cost."""

    rows: Rows
    bytes_processed: int
    job_ids: list[str]


class Combination(NamedTuple):
    """What a row is about: ping type, system and build are each a value or the roll-up `*`."""

    metric_key: str
    version: int
    ping_type: str
    os: str
    build_hour: str
    client_agg_type: str

    @property
    def build_date(self) -> datetime | None:
        """The build hour as a time; None for the roll-up."""
        return None if self.build_hour == ANY else build_hour_to_datetime(self.build_hour)
