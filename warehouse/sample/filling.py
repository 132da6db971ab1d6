"""The filling of the tables with sample pings, some builds at a time, so that memory is bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from warehouse.queries import query, render
from warehouse.sample import pings as sample
from warehouse.sample.populations import BUILDS, GECKOVIEW, RARE_CLIENTS, builds
from warehouse.sample.table_sizes import store_sizes, store_whole_sizes

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

    from usage_service.shared.progress import Report
    from warehouse.sample.pings import SampleOptions
    from warehouse.sample.populations import Population, SampleTable

CLIENT_BUILDS_A_STEP = 500_000


def steps(options: SampleOptions) -> int:
    """Return the number of steps that filling reports: tables times batches of builds."""
    return len(options.filled_tables) * len(list(_batches(options)))


def fill(connection: duckdb.DuckDBPyConnection, options: SampleOptions, description: str, report: Report) -> None:
    """Create and fill all tables and their catalogue in an empty database."""
    connection.execute(query("sample", "settings"))
    connection.execute(render("store"))
    population, done = None, 0
    for table in options.filled_tables:
        if table.population != population:
            population = table.population
            _prepare(connection, options, population)
        for _ in _fill_table(connection, options, table):
            done += 1
            report(done)
        store_sizes(connection, table)
    if any(table.dataset == f"{GECKOVIEW.dataset}_stable" for table in options.filled_tables):
        _fill_geckoview(connection, options)
    connection.execute(query("sample", "drop_working_tables"))
    connection.execute(query("sample", "set_description"), [description])
    connection.execute(query("sample", "checkpoint"))


def _fill_geckoview(connection: duckdb.DuckDBPyConnection, options: SampleOptions) -> None:
    schema, columns = f"{sample.PROJECT}.{GECKOVIEW.dataset}", GECKOVIEW.rows(options.until)
    create, insert = render("geckoview_version", schema=schema, table=GECKOVIEW.name).rsplit(";\n", 1)
    connection.execute(create)
    connection.execute(insert, list(columns))
    store_whole_sizes(connection, GECKOVIEW, len(columns[0]))


def _prepare(connection: duckdb.DuckDBPyConnection, options: SampleOptions, population: Population) -> None:
    clients = population.clients(options.clients, options.seed)
    connection.execute(query("sample", "create_clients"), [*clients, list(population.systems)])
    connection.execute(query("sample", "create_builds"))
    connection.executemany(query("sample", "add_build"), builds(population, options.until))


def _fill_table(
    connection: duckdb.DuckDBPyConnection, options: SampleOptions, table: SampleTable
) -> Iterator[tuple[int, int]]:
    probes = options.carried_by(table)
    names = {"schema": f"{sample.PROJECT}.{table.dataset}", "table": table.name}
    connection.execute(render("pings_table", **names, metrics_type=sample.metrics_type(probes)))
    _draw(connection, options, table)
    chosen = {"seed": options.seed, "ping": table.ping, "channels": list(table.channels), "rare": RARE_CLIENTS}
    pings = render("pings", **names, metrics=sample.taken(probes), draws=sample.drawn_from(probes))
    kinds = [kind for kind, _ in sample.by_type(probes)]
    for first, last in _batches(options):
        connection.execute(query("sample", "create_senders"), {**chosen, "first": first, "last": last})
        for sql in (pings, *(render("taken", kind=kind, place=sample.place(kind)) for kind in kinds)):
            connection.execute(sql, {"draws": options.draws})
        yield first, last


def _draw(connection: duckdb.DuckDBPyConnection, options: SampleOptions, table: SampleTable) -> None:
    probes = options.carried_by(table)
    connection.execute(query("sample", "create_taken"))
    for name, keys in sample.bounds(probes).items():
        connection.execute(render("set_bounds", variable=name), [keys])
    parameters = {"draws": options.draws, "seed": options.seed, "systems": list(table.population.systems)}
    connection.execute(render("draws", columns=sample.draws(probes)), parameters)


def _batches(options: SampleOptions) -> Iterator[tuple[int, int]]:
    """Return the first and last build of each batch."""
    size = max(1, CLIENT_BUILDS_A_STEP // options.clients)
    return ((first, min(first + size, BUILDS) - 1) for first in range(0, BUILDS, size))
