"""The embedded warehouse over pings of a test's own, served on the loopback from a thread."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
from aiohttp.typedefs import Middleware
from google.cloud import bigquery

from builder.bigquery import make_client
from tests.support.glam_today_reference import Ping
from tests.support.googlesql import (
    ALL_TABLES,
    COLUMNS,
    GECKOVIEW,
    GECKOVIEW_COLUMNS,
    PROJECT,
    Type,
    geckoview_rows,
    record,
)
from warehouse.queries import query, render
from warehouse.serving import served

START_SECONDS = 30
DUCKDB_NAMES = {"INT64": "BIGINT", "STRING": "VARCHAR", "TIMESTAMP": "TIMESTAMPTZ", "BOOL": "BOOLEAN"}
BYTES_A_CELL = 8
CREATE = 'CREATE TABLE "{schema}"."{name}" AS SELECT * FROM read_json($1, columns = {columns})'
DAYS = 'SELECT CAST(submission_timestamp AS DATE), count(*) FROM "{schema}"."{name}" GROUP BY 1'
LEAVES = (
    "INSERT INTO about.leaf_bytes SELECT $1, $2, $3, unnest($4::VARCHAR[][]), unnest($5::DATE[]), unnest($6::BIGINT[])"
)


def spelled(kind: Type) -> str:
    """Return the type as DuckDB spells it."""
    if isinstance(kind, str):
        return DUCKDB_NAMES[kind]
    if isinstance(kind, list):
        return f"{spelled(kind[0])}[]"
    return f"STRUCT({', '.join(f'{name} {spelled(inner)}' for name, inner in kind.items())})"


def leaves(kind: Type, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths of the leaf columns, which are billed on their own."""
    if isinstance(kind, str):
        yield path
    elif isinstance(kind, list):
        yield from leaves(kind[0], path)
    else:
        for name, inner in kind.items():
            yield from leaves(inner, (*path, name))


def write(path: Path, pings: Iterable[Ping]) -> None:
    """Write a database file with the tables of all products; every cell counts as 8 bytes."""
    tables: dict[tuple[str, str], list[Ping]] = {table: [] for table in ALL_TABLES}
    for ping in pings:
        tables[f"{ping.dataset}_stable", ping.ping_type].append(ping)
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(render("store"))
        for dataset in dict.fromkeys(dataset for dataset, _ in tables):
            connection.execute(f'CREATE SCHEMA "{PROJECT}.{dataset}"')
        _write_geckoview(connection)
        for (dataset, name), members in tables.items():
            _write_table(connection, path.with_suffix(".json"), dataset, f"{name}_v1", members)


def _write_table(
    connection: duckdb.DuckDBPyConnection, source: Path, dataset: str, name: str, pings: Iterable[Ping]
) -> None:
    source.write_text("".join(json.dumps(record(ping), default=str) + "\n" for ping in pings))
    columns = str({column: spelled(kind) for column, kind in COLUMNS.items()})
    schema = f"{PROJECT}.{dataset}"
    create, count_days = (sql.replace("{schema}", schema).replace("{name}", name) for sql in (CREATE, DAYS))
    connection.execute(create.replace("{columns}", columns), [str(source)])
    connection.execute("INSERT INTO about.tables VALUES ($1, $2, $3, 'submission_timestamp')", [PROJECT, dataset, name])
    days = connection.execute(count_days).fetchall() or [("2000-01-01", 0)]
    paths = list(leaves(COLUMNS))
    sizes = [(list(leaf), day, number * BYTES_A_CELL) for leaf in paths for day, number in days]
    connection.execute(LEAVES, [PROJECT, dataset, name, *map(list, zip(*sizes, strict=True))])


def _write_geckoview(connection: duckdb.DuckDBPyConnection) -> None:
    _, dataset, name = GECKOVIEW.split(".")
    rows = [tuple(row.values()) for row in geckoview_rows()]
    create, insert = render("geckoview_version", schema=f"{PROJECT}.{dataset}", table=name).rsplit(";\n", 1)
    connection.execute(create)
    connection.execute(insert, list(map(list, zip(*rows, strict=True))))
    for column in GECKOVIEW_COLUMNS:
        size = BYTES_A_CELL * len(rows)
        connection.execute(query("sample", "add_whole_leaf"), [PROJECT, dataset, name, column, size])
    connection.execute(query("sample", "add_whole_table"), [PROJECT, dataset, name])


@contextmanager
def warehouse(path: Path, pings: Iterable[Ping], middlewares: Sequence[Middleware] = ()) -> Iterator[bigquery.Client]:
    """Serve a warehouse that holds these pings and yield a BigQuery client of it."""
    write(path, pings)
    with (
        served(path, middlewares=middlewares) as address,
        closing(make_client("local-project", address, "US")) as client,
    ):
        yield client
