"""Choice of a row of a probe, and the distribution that a stored row tells."""

from __future__ import annotations

import asyncpg
import msgspec

from usage_service.builds.probe_rows import Facets, find_facets
from usage_service.problems import Problem
from usage_service.shared.postgres import Connection
from usage_service.stats.distributions import ALL, Distribution, distribution_of, independent_clients

PREFERRED = ("summed_histogram", "sum", "")
DISTRIBUTIONS = ("summed_histogram", "")  # aggregations whose clients are all in a bucket


class Choice(msgspec.Struct, frozen=True):
    """Row of a probe; what is None is the newest version, the label or the aggregation that is shown first."""

    product: str
    channel: str
    probe: str
    version: int | None = None
    ping_type: str = ALL
    os: str = ALL
    build_id: str = ALL
    metric_key: str | None = None
    client_agg_type: str | None = None


async def settled(connection: Connection, asked: Choice) -> Choice:
    """Return the choice with a version, a label and an aggregation; raise a Problem (404) for a probe without rows."""
    facets = await find_facets(connection, asked.product, asked.probe, asked.channel)
    if not facets.versions:
        raise no_row(asked)
    return msgspec.structs.replace(asked, **_first_choices(asked, facets))


def _first_choices(asked: Choice, facets: Facets) -> dict[str, object]:
    return {
        "version": facets.versions[0] if asked.version is None else asked.version,
        "metric_key": _first_of(facets.labels) if asked.metric_key is None else asked.metric_key,
        "client_agg_type": _first_of(facets.aggregations) if asked.client_agg_type is None else asked.client_agg_type,
    }


def _first_of(names: list[str]) -> str:
    return next((name for name in PREFERRED if name in names), min(names))


def clients_of_row(choice: Choice, row: asyncpg.Record) -> float:
    """Return how many independent clients a row is made of, at least."""
    return independent_clients(choice.product, choice.channel, choice.os, row["total_users"], row["parts"])


def distribution_of_row(choice: Choice, row: asyncpg.Record) -> Distribution | None:
    """Return the distribution of a row, None where it tells none."""
    return distribution_of(
        msgspec.json.decode(row["histogram"], type=dict[str, float]),
        numeric=row["is_numeric"],
        counter=choice.client_agg_type not in DISTRIBUTIONS,
        total_users=row["total_users"],
        clients=clients_of_row(choice, row),
    )


def no_row(choice: Choice) -> Problem:
    """Return the problem (404) that there are no numbers for a choice."""
    of = f"{choice.probe} of {choice.product} {choice.channel}"
    if choice.version is None:
        return Problem(404, "No numbers", f"{of} has no numbers: it was not built, or too few clients sent it")
    chosen = f"version {choice.version}, ping {choice.ping_type}, system {choice.os}, build {choice.build_id}"
    chosen += f", label {choice.metric_key}" if choice.metric_key else ""
    chosen += f", aggregation {choice.client_agg_type}" if choice.client_agg_type else ""
    return Problem(404, "No numbers", f"{of} has none for {chosen}: there is no such row, or too few clients sent it")
