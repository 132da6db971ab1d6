"""The catalogue of probes: its products, names that match a search, one probe, how many were ever viewed."""

from __future__ import annotations

from datetime import datetime

import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.stats.value_units import unit_of_values


class Entry(msgspec.Struct, frozen=True):
    """A probe as it was registered; `built_at` is when the ETL last built it.

    `buildable` if its type can be built and no pattern hides it; `hidden_by` is that pattern. Empty `labels` mean any.
    `expires` is a day, a version, `never` or `expired`; a `disabled` probe is not sent although it is in the source.
    `unit` is what its values are in, null for a count.
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
    unit: str | None = None


class KnownProduct(msgspec.Struct, frozen=True):
    """A product, and the channels that its views and releases named."""

    product: str
    channels: list[str]


class ViewedCounts(msgspec.Struct, frozen=True):
    """The number of probes in the catalogue, and of those that a person ever viewed."""

    probes: int
    ever_viewed: int


async def known_products(connection: Connection) -> list[str]:
    """Return every product that a probe was registered or viewed of, the one with the most probes first."""
    return [row["product"] for row in await connection.fetch(query("catalogue", "products"))]


async def products_with_channels(connection: Connection) -> list[KnownProduct]:
    """Return every product that anything is known of, that with the most probes first, and its channels."""
    rows = await connection.fetch(query("catalogue", "channels"))
    channels = {row["product"]: row["channels"] for row in rows}
    names = dict.fromkeys([*await known_products(connection), *sorted(channels)])
    return [KnownProduct(name, channels.get(name, [])) for name in names]


async def search(connection: Connection, product: str | None, text: str, after: int, limit: int) -> list[Entry]:
    """Return the probes whose name contains the text or is similar to it, the best match first, after so many."""
    found = await connection.fetch(query("catalogue", "search"), product, text, limit, after)
    return [Entry(**row) for row in found]


async def find_entry(connection: Connection, product: str, probe: str) -> Entry | None:
    """Return the probe, or None when it was never registered, built or retired."""
    row = await connection.fetchrow(query("catalogue", "entry"), product, probe)
    if row is None:
        return None
    values = dict(row)
    units = [values.pop(name) for name in ("time_unit", "memory_unit", "unit")]
    return Entry(**values, unit=unit_of_values(values["metric_type"], *units))


async def count_viewed(connection: Connection, product: str) -> ViewedCounts:
    """Count the probes of a product that are not retired, and those of them that a person ever viewed."""
    [row] = await connection.fetch(query("catalogue", "viewed_counts"), product)
    return ViewedCounts(**row)
