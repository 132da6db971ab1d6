"""Fills the warehouse's tables with sample pings, some builds at a time, so that memory is bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from warehouse.sample import pings as sample
from warehouse.sample.populations import BUILDS, RARE_CLIENTS, builds
from warehouse.sample.table_sizes import Weighed, weigh
from warehouse.sql import filled

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

    from usage_service.shared.progress import Report
    from warehouse.sample.pings import SampleOptions
    from warehouse.sample.populations import Population, SampleTable

CLIENT_BUILDS_A_STEP = 500_000
SETTINGS = (
    "SET TimeZone = 'UTC'",
    "SET memory_limit = '1GB'",
    # Pings are to stay in the order of their senders: on the side of the joins that is streamed.
    "SET disabled_optimizers = 'join_order,build_side_probe_side'",
)
WORKING_TABLES = ("clients", "builds", "draws", "senders", "taken")


def steps(options: SampleOptions) -> int:
    """How many steps the filling reports: tables times batches of builds."""
    return len(options.filled_tables) * len(list(_batches(options)))


def fill(connection: duckdb.DuckDBPyConnection, options: SampleOptions, description: str, report: Report) -> None:
    """Create and fill all tables, and what the warehouse knows about them, in an empty database."""
    for setting in SETTINGS:
        connection.execute(setting)
    connection.execute(filled("store"))
    population, done = None, 0
    for table in options.filled_tables:
        if table.population != population:
            population = table.population
            _prepare(connection, options, population)
        for _ in _fill_table(connection, options, table):
            done += 1
            report(done)
        weigh(connection, Weighed(sample.PROJECT, table.dataset, table.name))
    for name in WORKING_TABLES:
        connection.execute(f"DROP TABLE {name}")
    connection.execute("INSERT INTO about.seeded VALUES (?)", [description])
    connection.execute("CHECKPOINT")


def _prepare(connection: duckdb.DuckDBPyConnection, options: SampleOptions, population: Population) -> None:
    clients = population.clients(options.clients, options.seed)
    connection.execute(filled("clients"), [*clients, list(population.systems)])
    connection.execute(filled("builds"))
    connection.executemany("INSERT INTO builds VALUES (?, ?, ?, ?, ?, ?)", builds(population, options.until))


def _fill_table(
    connection: duckdb.DuckDBPyConnection, options: SampleOptions, table: SampleTable
) -> Iterator[tuple[int, int]]:
    probes = options.carried_by(table)
    names = {"schema": f"{sample.PROJECT}.{table.dataset}", "table": table.name}
    connection.execute(filled("pings_table", **names, metrics_type=sample.metrics_type(probes)))
    _draw(connection, options, table)
    chosen = {"seed": options.seed, "ping": table.ping, "channels": list(table.channels), "rare": RARE_CLIENTS}
    pings = filled("pings", **names, metrics=sample.taken(probes), draws=sample.drawn_from(probes))
    kinds = [kind for kind, _ in sample.by_type(probes)]
    for first, last in _batches(options):
        connection.execute(filled("senders"), {**chosen, "first": first, "last": last})
        for sql in (pings, *(filled("taken", kind=kind, place=sample.place(kind)) for kind in kinds)):
            connection.execute(sql, {"draws": options.draws})
        yield first, last


def _draw(connection: duckdb.DuckDBPyConnection, options: SampleOptions, table: SampleTable) -> None:
    probes = options.carried_by(table)
    for name, keys in sample.bounds(probes).items():
        connection.execute(f"SET VARIABLE {name} = $1", [keys])
    parameters = {"draws": options.draws, "seed": options.seed, "systems": list(table.population.systems)}
    connection.execute(filled("draws", columns=sample.draws(probes)), parameters)


def _batches(options: SampleOptions) -> Iterator[tuple[int, int]]:
    """First and last build of each batch."""
    size = max(1, CLIENT_BUILDS_A_STEP // options.clients)
    return ((first, min(first + size, BUILDS) - 1) for first in range(0, BUILDS, size))
