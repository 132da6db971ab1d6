"""The catalogue of probes: its products, names that match a search, one probe, how many were ever viewed."""

from __future__ import annotations

from datetime import datetime

import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection

VISITS_READ = 1_000
EVENTS_READ = 500  # of a session


class Entry(msgspec.Struct, frozen=True):
    """A probe as it was registered; `built_at` is when the ETL last built it.

    `buildable` if its type can be built and no pattern hides it; `hidden_by` is that pattern. Empty `labels` mean any.
    `expires` is a day, a version, `never` or `expired`; a `disabled` probe is not sent although it is in the source.
    """

    product: str
    probe: str
    metric_type: str | None
    pings: list[str]
    registered_at: datetime | None
    retired: bool
    built_at: datetime | None
    buildable: bool
    hidden_by: str | None = None
    labels: list[str] | None = None
    description: str | None = None
    owners: list[str] | None = None
    expires: str | None = None
    disabled: bool = False
    link: str | None = None


class ViewedCounts(msgspec.Struct, frozen=True):
    """The number of probes in the catalogue, and of those that a person ever viewed."""

    probes: int
    ever_viewed: int


class ViewedTogether(msgspec.Struct, frozen=True):
    """Another probe, and the number of the sessions read in which it was viewed, too."""

    probe: str
    sessions: int


class Together(msgspec.Struct, frozen=True):
    """The probes viewed in the same sessions as one; `sessions_cut` had more than EVENTS_READ events."""

    probes: list[ViewedTogether]
    sessions_cut: int


async def known_products(connection: Connection) -> list[str]:
    """Return every product that a probe was registered or viewed of, the one with the most probes first."""
    return [row["product"] for row in await connection.fetch(query("catalogue", "products"))]


async def search(connection: Connection, product: str | None, text: str, limit: int) -> list[Entry]:
    """Return the probes whose name contains the text or is similar to it, the best match first."""
    return [Entry(**row) for row in await connection.fetch(query("catalogue", "search"), product, text, limit)]


async def find_entry(connection: Connection, product: str, probe: str) -> Entry | None:
    """Return the probe, or None when it was never registered, built or retired."""
    row = await connection.fetchrow(query("catalogue", "entry"), product, probe)
    return Entry(**row) if row else None


async def count_viewed(connection: Connection, product: str) -> ViewedCounts:
    """Count the probes of a product that are not retired, and those of them that a person ever viewed."""
    [row] = await connection.fetch(query("catalogue", "viewed_counts"), product)
    return ViewedCounts(**row)


async def viewed_together(
    connection: Connection, since: datetime, until: datetime, product: str, probe: str, limit: int
) -> Together:
    """Return the probes of a product that people viewed in the same sessions as a probe of it, the most frequent first.

    Only sessions that began in the time range count. The latest VISITS_READ visits to the probe are read; a visit is
    all of a visitor's views of it in one hour.
    """
    asked = since, until, product, probe, limit, VISITS_READ, EVENTS_READ
    *rows, cut = await connection.fetch(query("catalogue", "together"), *asked)
    return Together([ViewedTogether(**row) for row in rows], cut["sessions"])
