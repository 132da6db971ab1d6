"""The catalogue as people look through it: products, names that match, one probe, how much of it was ever looked at."""

from __future__ import annotations

from datetime import datetime

import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection

VISITS_LOOKED_AT = 1_000


class Entry(msgspec.Struct, frozen=True):
    """A probe as it was registered; `built_at` is when the ETL last built it, `buildable` whether its type is."""

    product: str
    probe: str
    metric_type: str | None
    pings: list[str]
    registered_at: datetime | None
    retired: bool
    built_at: datetime | None
    buildable: bool


class LookedAt(msgspec.Struct, frozen=True):
    """How many probes of the catalogue there are, and how many of them a person ever looked at."""

    probes: int
    ever_viewed: int


class Around(msgspec.Struct, frozen=True):
    """Another probe, and in how many of the sessions looked at it was viewed, too."""

    probe: str
    sessions: int


async def known_products(connection: Connection) -> list[str]:
    """Every product that was registered for or viewed, that of the most probes first."""
    return [row["product"] for row in await connection.fetch(query("catalogue", "products"))]


async def search(connection: Connection, product: str | None, text: str, limit: int) -> list[Entry]:
    """Probes whose name has the text in it or is like it, the best match first."""
    return [Entry(**row) for row in await connection.fetch(query("catalogue", "search"), product, text, limit)]


async def find_entry(connection: Connection, product: str, probe: str) -> Entry | None:
    """The probe, or None where it was never registered, built or retired."""
    row = await connection.fetchrow(query("catalogue", "entry"), product, probe)
    return Entry(**row) if row else None


async def looked_at(connection: Connection, product: str) -> LookedAt:
    """How much of a product's catalogue, without what is retired, was ever looked at."""
    [row] = await connection.fetch(query("catalogue", "looked_at"), product)
    return LookedAt(**row)


async def viewed_together(
    connection: Connection, since: datetime, until: datetime, product: str, probe: str, limit: int
) -> list[Around]:
    """What people viewed in the sessions of a time range in which they viewed a probe, most often first.

    Looked at are the latest VISITS_LOOKED_AT times that a visitor viewed it, all of an hour taken as one.
    """
    asked = since, until, product, probe, limit, VISITS_LOOKED_AT
    rows = await connection.fetch(query("catalogue", "together"), *asked)
    return [Around(**row) for row in rows]
