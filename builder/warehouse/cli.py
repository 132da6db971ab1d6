"""`probe-builder warehouse`: seed, serve and query the embedded warehouse."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import datetime as dt
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
import typer
from aiohttp import web
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from builder.warehouse.app import create_app
from builder.warehouse.errors import BigQueryError
from builder.warehouse.querying import over_http, run_locally
from builder.warehouse.sample import PROJECT, SampleOptions
from builder.warehouse.seeding import DATABASE, seed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = structlog.get_logger(__name__)
app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, help="The embedded warehouse: BigQuery's API on sample pings."
)

DataDir = Annotated[
    Path, typer.Option(envvar="PROBE_BUILDER_WAREHOUSE_DIR", help="Where the warehouse's files are kept.")
]
DEFAULT_DIR = Path("warehouse-data")
SHUTDOWN_SECONDS = 1.0


@app.command("seed")
def seed_command(
    data_dir: DataDir = DEFAULT_DIR,
    clients: Annotated[
        int,
        typer.Option(min=1, max=1_000_000, envvar="PROBE_BUILDER_SAMPLE_CLIENTS", help="How many clients send pings."),
    ] = 20_000,
    seed_number: Annotated[int, typer.Option("--seed", min=0, help="Equal seeds make equal pings.")] = 1,
    until: Annotated[
        dt.datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day of the newest build; default: today.")
    ] = None,
) -> None:
    """Make up pings; does nothing if they are there already."""
    day = until.date() if until else dt.datetime.now(dt.UTC).date()
    with _progress() as progress:
        written = seed(data_dir, SampleOptions(clients, seed_number, day), progress)
    log.info("seed_ready", data_dir=str(data_dir), written=written)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    if not sys.stderr.isatty():
        yield lambda done, total: log.info("seed_progress", done=done, total=total) if done % 10 == 0 else None
        return
    columns = (TextColumn("Making up pings"), BarColumn(), TextColumn("{task.percentage:.0f}%"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("pings")
        yield lambda done, total: bar.update(task, completed=done, total=total)


@app.command("serve")
def serve_command(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port to listen on; 0 takes a free one.")] = 9050,
    data_dir: DataDir = DEFAULT_DIR,
    host: Annotated[str, typer.Option(help="There is no authentication: keep it private.")] = "127.0.0.1",
) -> None:
    """Answer BigQuery's REST API until SIGTERM or SIGINT."""
    if host not in ("127.0.0.1", "::1", "localhost"):
        log.warning("warehouse_is_open", host=host, why="whoever reaches the port may query: there are no tokens")
    try:
        asyncio.run(_serve(create_app(data_dir / DATABASE), host, port))
    except (FileNotFoundError, OSError) as error:
        _fail(str(error))


async def _serve(application: web.Application, host: str, port: int) -> None:
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        log.info("warehouse_ready", url=f"http://{host}:{runner.addresses[0][1]}", project=PROJECT)
        await _stop_signal()
    finally:
        await runner.cleanup()
        log.info("warehouse_stopped")


async def _stop_signal() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


@app.command("query")
def query_command(
    sql: Annotated[str, typer.Argument(help="One GoogleSQL SELECT.")],
    data_dir: DataDir = DEFAULT_DIR,
    url: Annotated[str | None, typer.Option(help="Ask a running warehouse instead of opening the file.")] = None,
) -> None:
    """Run a query and print its rows: a table on a terminal, else CSV."""
    try:
        columns, rows = over_http(url, sql) if url else run_locally(data_dir / DATABASE, sql)
    except BigQueryError as error:
        _fail(error.message)
    except (FileNotFoundError, OSError) as error:
        _fail(str(error))
    _print(columns, rows)


def _print(columns: list[str], rows: list[tuple[object, ...]]) -> None:
    if not sys.stdout.isatty():
        writer = csv.writer(sys.stdout)
        writer.writerow(columns)
        writer.writerows(rows)
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*("NULL" if cell is None else str(cell) for cell in row))
    Console().print(table)


def _fail(message: str) -> None:
    typer.secho(f"probe-builder warehouse: {message}", err=True, fg="red")
    raise typer.Exit(1)
