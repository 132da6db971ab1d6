"""The embedded warehouse over pings of a test's own, served on the loopback from a thread."""

import asyncio
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path
from threading import Thread

import duckdb
from aiohttp import web
from google.cloud import bigquery

from builder.bigquery import make_client
from builder.warehouse.app import create_app
from tests.googlesql import COLUMNS, DATASET, PROJECT, TABLES, Type, record
from tests.reference_statistics import Ping

START_SECONDS = 30
DUCKDB_NAMES = {"INT64": "BIGINT", "STRING": "VARCHAR", "TIMESTAMP": "TIMESTAMPTZ", "FLOAT64": "DOUBLE"}
BYTES_A_CELL = 8
SCHEMA = f"{PROJECT}.{DATASET}"
CREATE = 'CREATE TABLE "{schema}"."{name}" AS SELECT * FROM read_json($1, columns = {columns})'
DAYS = 'SELECT CAST(submission_timestamp AS DATE), count(*) FROM "{schema}"."{name}" GROUP BY 1'
STORE = files("builder.warehouse").joinpath("sql", "store.sql")


def spelled(kind: Type) -> str:
    """The type as DuckDB spells it."""
    if isinstance(kind, str):
        return DUCKDB_NAMES[kind]
    if isinstance(kind, list):
        return f"{spelled(kind[0])}[]"
    return f"STRUCT({', '.join(f'{name} {spelled(inner)}' for name, inner in kind.items())})"


def leaves(kind: Type, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of the columns that are billed on their own."""
    if isinstance(kind, str):
        yield path
    elif isinstance(kind, list):
        yield from leaves(kind[0], path)
    else:
        for name, inner in kind.items():
            yield from leaves(inner, (*path, name))


def write(path: Path, pings: Iterable[Ping]) -> None:
    """A database file with a table for each type of ping, every cell 8 bytes."""
    by_type: dict[str, list[Ping]] = {name: [] for name in TABLES}
    for ping in pings:
        by_type[ping.ping_type].append(ping)
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(STORE.read_text())
        connection.execute(f'CREATE SCHEMA "{SCHEMA}"')
        for name, members in by_type.items():
            _write_table(connection, path.with_suffix(f".{name}.json"), f"{name}_v1", members)


def _write_table(connection: duckdb.DuckDBPyConnection, source: Path, name: str, pings: Iterable[Ping]) -> None:
    source.write_text("".join(json.dumps(record(ping), default=str) + "\n" for ping in pings))
    columns = str({column: spelled(kind) for column, kind in COLUMNS.items()})
    create, count_days = (sql.replace("{schema}", SCHEMA).replace("{name}", name) for sql in (CREATE, DAYS))
    connection.execute(create.replace("{columns}", columns), [str(source)])
    connection.execute("INSERT INTO about.tables VALUES ($1, $2, $3, 'submission_timestamp')", [PROJECT, DATASET, name])
    days = connection.execute(count_days).fetchall()
    connection.executemany(
        "INSERT INTO about.leaf_bytes VALUES ($1, $2, $3, $4, $5, $6)",
        [[PROJECT, DATASET, name, list(leaf), day, n * BYTES_A_CELL] for leaf in leaves(COLUMNS) for day, n in days]
        or [[PROJECT, DATASET, name, ["sample_id"], "2000-01-01", 0]],
    )


@contextmanager
def served(path: Path) -> Iterator[str]:
    """The address of a server over the file; it is gone afterwards."""
    ready: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    thread = Thread(target=lambda: asyncio.run(_serve(path, ready)), name="warehouse")
    thread.start()
    address, loop, stop = ready.result(START_SECONDS)
    try:
        yield address
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(START_SECONDS)
        assert not thread.is_alive()


async def _serve(path: Path, ready: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    stop = asyncio.Event()
    try:
        runner = web.AppRunner(create_app(path))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
    except Exception as error:
        ready.set_exception(error)
        raise
    host, port = runner.addresses[0][:2]
    ready.set_result((f"http://{host}:{port}", asyncio.get_running_loop(), stop))
    await stop.wait()
    await runner.cleanup()


@contextmanager
def warehouse(path: Path, pings: Iterable[Ping]) -> Iterator[bigquery.Client]:
    """A BigQuery client of a warehouse that holds these pings."""
    write(path, pings)
    with served(path) as address, closing(make_client("local-project", address, "US")) as client:
        yield client
