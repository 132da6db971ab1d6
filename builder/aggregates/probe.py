"""A build's request and its result: the probe to aggregate, and the rows that GLAM shows of it."""

from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import NamedTuple, Protocol
from uuid import UUID

from builder.aggregates.definition import Definition
from usage_service.shared.bigquery.errors import PermanentWorkError

ANY = "*"
HOUR_FORMAT = "%Y%m%d%H"  # of a build hour, which every form of build id is reduced to

Progress = Callable[[str, int, int], None]
"""Called with (stage, percent, bytes read); raises WorkCancelledError or WorkAbandonedError to stop the build."""


@dataclass(frozen=True)
class BuildRequest:
    """The probe to build, its type and the pings that carry it, as of a day.

    `latest_version` is the newest version released on the channel; None has it found in the pings.
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


class ProbeRow(NamedTuple):
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
    """Rows with a length that can be iterated again and again; each iteration may make them anew."""


@dataclass(frozen=True)
class BuiltProbe:
    """The rows of a probe, none where too few clients sent it, and the bytes and jobs that they took."""

    rows: Rows
    bytes_processed: int
    job_ids: list[str]


@dataclass(frozen=True)
class BuiltTogether:
    """Several probes that were read together, with the bytes and jobs that they took.

    Iterated once, it gives the rows of each in the order of the requests, or the error of one that has none for a
    reason of its own. The warehouse's jobs are over then; each probe's cells are fetched when its turn comes.
    """

    bytes_processed: int
    job_ids: list[str]
    each: Iterator[Rows | PermanentWorkError]

    def __iter__(self) -> Iterator[Rows | PermanentWorkError]:
        """Fetch one probe after the other. Raise TransientWorkError, and what stops the build."""
        return self.each


class Combination(NamedTuple):
    """The identity of a row: ping type, system and build are each a value or the roll-up `*`."""

    metric_key: str
    version: int
    ping_type: str
    os: str
    build_hour: str
    client_agg_type: str

    @property
    def build_date(self) -> datetime | None:
        """Return the start of the build hour in UTC; None for the roll-up."""
        return _start(self.build_hour)


@lru_cache(maxsize=10_000)
def _start(build_hour: str) -> datetime | None:
    return None if build_hour == ANY else datetime.strptime(build_hour, HOUR_FORMAT).replace(tzinfo=UTC)
