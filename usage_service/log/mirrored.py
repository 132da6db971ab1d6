"""The mirror of the log in BigQuery as a source: events that were dropped from the log are read from there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

import pyarrow as pa

from usage_service.log.arrow import SCHEMA, read_batches, read_begin, read_rows
from usage_service.log.errors import LogAwayError, LogReadError
from usage_service.log.reading import LogFilter
from usage_service.queries import query
from usage_service.shared.errors import AwayError
from usage_service.shared.launch import installing
from usage_service.shared.queries import SqlFolder
from usage_service.shared.settings import MIRROR, SettingsError

if TYPE_CHECKING:
    from usage_service.shared.bigquery.jobs import Client
    from usage_service.shared.bigquery.pages import Page
    from usage_service.shared.bigquery.statement import Statement
    from usage_service.shared.settings import MirrorReaderSettings, MirrorSettings, ServerSettings

EVENTS_A_STATEMENT = 500_000
ROWS_A_BATCH = 10_000
MOST_BYTES, DEADLINE_SECONDS = 2**40, 300.0  # of a statement
LATE = 24 * 3_600 * 1_000_000  # microseconds
TABLE, VIEW = "event_log", "events"
IDS = ("event_id", "visitor", "digest")
TIMES = ("occurred_at", "recorded_at")
render = SqlFolder(Path(__file__).parent / "sql").template


class MirrorPlace(NamedTuple):
    """The place of a mirror: `project.dataset`, the URL of a warehouse that is not BigQuery's own, and the location."""

    mirror: str
    warehouse_url: str | None = None
    location: str = "US"

    @classmethod
    def of(cls, settings: MirrorReaderSettings | MirrorSettings | ServerSettings) -> MirrorPlace | None:
        """Return the place that the settings name, if they name one."""
        return cls(settings.mirror, settings.mirror_url, settings.mirror_location) if settings.mirror else None

    @property
    def table(self) -> str:
        """Return the full name of the table of events."""
        return f"{self.mirror}.{TABLE}"

    @property
    def view(self) -> str:
        """Return the full name of the view of events as they are today."""
        return f"{self.mirror}.{VIEW}"

    def client(self) -> Client:
        """Return a client, one for all that this process asks."""
        return _client(self)


def require_client() -> None:
    """Raise SettingsError where the client of BigQuery is not installed, which only the mirror needs."""
    if not all(map(find_spec, ("google", "google.cloud", "google.cloud.bigquery"))):
        raise SettingsError(f"{MIRROR}: the client of BigQuery is not installed; run: {installing('mirror')}")


@cache
def _client(place: MirrorPlace) -> Client:
    require_client()
    from usage_service.shared.bigquery.jobs import make_client  # not at the start: loading it takes a second

    return make_client(place.mirror.partition(".")[0], place.warehouse_url, place.location)


class Load(NamedTuple):
    """A range of positions that one job took to the mirror, and the first and the last day that it has events of."""

    after: int
    upto: int
    events: int
    first_day: date
    last_day: date


@dataclass(frozen=True)
class MirrorSource:
    """A mirror, whose loads are noted in the database of the log. `role`: whose rights are taken there."""

    place: MirrorPlace
    database_url: str = field(repr=False)
    role: str | None = None

    def begins_after(self) -> int | None:
        """Return the position after which it has every event, None where there is no such mirror. Blocks."""
        [(found,)] = read_rows(self.database_url, self.role, query("mirror", "begins_after"), [self.place.mirror])
        return None if found is None else int(str(found))

    def batches(self, after: int, upto: int, only: LogFilter, limit: int | None = None) -> Iterator[pa.RecordBatch]:
        """Read the events after a position up to another, in order, as the log had them. Raise LogReadError. Blocks."""
        asked = [self.place.mirror, after, upto]
        loads = [Load(*row) for row in read_rows(self.database_url, self.role, query("mirror", "loads"), asked)]
        self._check_cover(loads, after, upto)
        for statement in self._statements(loads, after, upto, only, limit):
            for batch in _rows(self.place, statement, limit):
                limit = None if limit is None else limit - batch.num_rows
                yield batch
            if limit == 0:
                return

    def _check_cover(self, loads: list[Load], after: int, upto: int) -> None:
        begins_after = self.begins_after()
        if begins_after is None:
            raise LogReadError(f"there is no mirror {self.place.mirror} of this log")
        if begins_after > after:
            raise LogReadError(
                f"the mirror {self.place.mirror} begins after position {begins_after}: what was dropped before is in "
                "the files that `usage-service retention drop` wrote (events-*.parquet)"
            )
        if loads and loads[-1].upto < upto:
            raise LogReadError(f"the mirror {self.place.mirror} ends at position {loads[-1].upto}")

    def _statements(
        self, loads: list[Load], after: int, upto: int, only: LogFilter, limit: int | None
    ) -> Iterator[Statement]:
        group: list[Load] = []
        for load in loads:
            if group and sum(one.events for one in group) + load.events > EVENTS_A_STATEMENT:
                yield self._statement(group, after, upto, only, limit)
                group = []
            group.append(load)
        if group:
            yield self._statement(group, after, upto, only, limit)

    def _statement(self, loads: list[Load], after: int, upto: int, only: LogFilter, limit: int | None) -> Statement:
        from usage_service.shared.bigquery.statement import Statement, parameters

        events = sum(load.events for load in loads)
        values: dict[str, tuple[str, object]] = {
            **within(loads),
            "after": ("INT64", after),
            "upto": ("INT64", upto),
            "types": ("STRING", ",".join(only.types) if only.types is not None else None),
            "product": ("STRING", only.product),
            "visitor": ("STRING", str(only.visitor) if only.visitor else None),
            "since": ("TIMESTAMP", only.since),
            "until": ("TIMESTAMP", only.until),
            "most": ("INT64", events if limit is None else min(limit, events)),
        }
        return Statement("mirrored", render("mirrored", table=self.place.table), parameters(values))


def within(loads: list[Load]) -> dict[str, tuple[str, object]]:
    """Return the parameters that bound a statement to some loads, and to the partitions that these wrote to."""
    return {
        "first_day": ("DATE", min(load.first_day for load in loads)),
        "last_day": ("DATE", max(load.last_day for load in loads)),
        "first": ("INT64", loads[0].after),
        "last": ("INT64", loads[-1].after),
    }


def read_events(
    url: str, role: str | None, mirror: MirrorPlace | None, after: int, upto: int, only: LogFilter, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Read record batches of SCHEMA as `read_batches` does; what was dropped comes from the mirror, if there is one."""
    if mirror is not None and after + 1 < (begin := read_begin(url, role)):
        end = min(upto, begin - 1)
        for batch in MirrorSource(mirror, url, role).batches(after, end, only, limit):
            limit = None if limit is None else limit - batch.num_rows
            yield batch
        after = end
    if limit != 0:
        yield from read_batches(url, role, after, upto, only, limit)


def _rows(place: MirrorPlace, statement: Statement, limit: int | None) -> Iterator[pa.RecordBatch]:
    from usage_service.shared.bigquery.errors import WorkError
    from usage_service.shared.bigquery.jobs import JobOptions, JobRunner, ignore

    options = JobOptions(MOST_BYTES, DEADLINE_SECONDS, page_size=ROWS_A_BATCH)
    runner = JobRunner(place.client(), uuid4(), {"purpose": "read"}, options, kind="mirror")
    try:
        for page in runner.run(statement, ignore):
            batch = _batch(page).slice(0, limit)
            if batch.num_rows:
                yield batch
            limit = None if limit is None else limit - batch.num_rows
            if limit == 0:
                return
    except WorkError as error:
        kind = LogAwayError if isinstance(error, AwayError) else LogReadError
        raise kind(f"the mirror {place.mirror} cannot be read: {error}") from None


def _batch(page: Page) -> pa.RecordBatch:
    values: dict[str, Any] = {name: page[name] for name in SCHEMA.names if name != "late"}
    times = zip(values["occurred_at"], values["recorded_at"], strict=True)
    values["late"] = [recorded - occurred > LATE for occurred, recorded in times]
    for name in IDS:
        values[name] = [UUID(text).bytes if text else None for text in values[name]]
    arrays = [pa.array(values[one.name], pa.int64() if one.name in TIMES else one.type) for one in SCHEMA]
    columns = [array.cast(one.type) if one.name in TIMES else array for array, one in zip(arrays, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
