"""The embedded warehouse over pings of a test's own, served on the loopback from a thread."""

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

import duckdb
from aiohttp.typedefs import Middleware
from google.cloud import bigquery

from tests.support.glam_today_reference import Ping
from tests.support.googlesql import (
    ALL_TABLES,
    COLUMNS,
    GECKOVIEW,
    GECKOVIEW_COLUMNS,
    PROJECT,
    geckoview_rows,
    record,
)
from tests.support.reference_engine import Type
from usage_service.shared.bigquery.jobs import make_client
from warehouse.queries import query, render
from warehouse.serving import served

START_SECONDS = 30
DUCKDB_NAMES = {"INT64": "BIGINT", "STRING": "VARCHAR", "TIMESTAMP": "TIMESTAMPTZ", "BOOL": "BOOLEAN"}
BYTES_A_CELL = 8
EMPTY = "empty.duckdb"
FILL = 'INSERT INTO "{schema}"."{name}" SELECT * FROM read_json($1, columns = {columns})'
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
    tables: dict[tuple[str, str], list[Ping]] = {}
    for ping in pings:
        tables.setdefault((f"{ping.dataset}_stable", ping.ping_type), []).append(ping)
    shutil.copyfile(Path(_made().name) / EMPTY, path)
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for (dataset, name), members in tables.items():
            _fill_table(connection, path.with_suffix(".json"), dataset, f"{name}_v1", members)


@cache
def _made() -> tempfile.TemporaryDirectory[str]:
    """Return a directory with a warehouse whose tables have no pings, made once for a process and gone with it."""
    directory = tempfile.TemporaryDirectory()
    with duckdb.connect(str(Path(directory.name) / EMPTY)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(render("store"))
        for dataset in dict.fromkeys(dataset for dataset, _ in ALL_TABLES):
            connection.execute(f'CREATE SCHEMA "{PROJECT}.{dataset}"')
        _write_geckoview(connection)
        for dataset, name in ALL_TABLES:
            _make_table(connection, dataset, f"{name}_v1")
    return directory


def _make_table(connection: duckdb.DuckDBPyConnection, dataset: str, name: str) -> None:
    columns = ", ".join(f"{column} {spelled(kind)}" for column, kind in COLUMNS.items())
    connection.execute(f'CREATE TABLE "{PROJECT}.{dataset}"."{name}" ({columns})')
    connection.execute("INSERT INTO about.tables VALUES ($1, $2, $3, 'submission_timestamp')", [PROJECT, dataset, name])
    _store_sizes(connection, dataset, name, [("2000-01-01", 0)])


def _fill_table(
    connection: duckdb.DuckDBPyConnection, source: Path, dataset: str, name: str, pings: Iterable[Ping]
) -> None:
    source.write_text("".join(json.dumps(record(ping), default=str) + "\n" for ping in pings))
    columns = str({column: spelled(kind) for column, kind in COLUMNS.items()})
    schema = f"{PROJECT}.{dataset}"
    fill, count_days = (sql.replace("{schema}", schema).replace("{name}", name) for sql in (FILL, DAYS))
    connection.execute(fill.replace("{columns}", columns), [str(source)])
    _store_sizes(connection, dataset, name, connection.execute(count_days).fetchall())


def _store_sizes(
    connection: duckdb.DuckDBPyConnection, dataset: str, name: str, days: Sequence[tuple[object, int]]
) -> None:
    sizes = [(list(leaf), day, number * BYTES_A_CELL) for leaf in leaves(COLUMNS) for day, number in days]
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
