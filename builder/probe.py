"""A probe to build, and what comes of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from itertools import product
from typing import NamedTuple
from uuid import UUID

from builder.build_hour import build_hour_to_datetime

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


@dataclass(frozen=True)
class BuiltProbe:
    """The rows, none where too few clients sent the probe, and what they cost."""

    rows: list[ProbeRow]
    bytes_processed: int
    job_ids: list[str]


class Combination(NamedTuple):
    """What a row is about: each of the last three is a value or the roll-up `*`."""

    version: int
    ping_type: str
    os: str
    build_hour: str

    @property
    def build_date(self) -> datetime | None:
        """The build hour as a time; None for the roll-up."""
        return None if self.build_hour == ANY else build_hour_to_datetime(self.build_hour)


class ClientGroup(NamedTuple):
    """Clients that have all four in common; those that do not tell their system have None."""

    version: int
    ping_type: str
    os: str | None
    build_hour: str

    def roll_ups(self, *, by_build: bool) -> Iterator[Combination]:
        """The combinations that the group counts in; an unknown system only in `*`, a left out build too."""
        systems = (ANY,) if self.os is None else (self.os, ANY)
        builds = (self.build_hour, ANY) if by_build else (ANY,)
        for ping_type, os, build_hour in product((self.ping_type, ANY), systems, builds):
            yield Combination(self.version, ping_type, os, build_hour)
