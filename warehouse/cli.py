"""`probe-builder warehouse`: seed, serve and query the embedded warehouse."""

from __future__ import annotations

import asyncio
import datetime as dt
import signal
from functools import partial
from pathlib import Path
from typing import Annotated

import structlog
import typer
from aiohttp import web

from usage_service.shared.commands import prepare, run_program
from usage_service.shared.errors import AwayError, UserError
from usage_service.shared.exit_codes import EPILOGUE
from usage_service.shared.options import given_address
from usage_service.shared.progress import progress
from usage_service.shared.tables import FormatOption
from warehouse.api.app import create_app
from warehouse.errors import BigQueryError
from warehouse.querying import over_http, print_rows, run_locally
from warehouse.sample.filling import steps
from warehouse.sample.pings import PROJECT, SampleOptions
from warehouse.sample.probes import PROBES, sample_probes
from warehouse.sample.seeding import DATABASE, seed

log = structlog.get_logger(__name__)
FIRST_DAY, LAST_DAY = dt.date(2000, 1, 1), dt.date(2999, 12, 31)  # far enough from the ends of the calendar
ABOUT = "The embedded warehouse: BigQuery's API on sample pings."
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=ABOUT)


def _day(text: str) -> dt.date:
    """Return the day that an option names; raise BadParameter, which says what it must be."""
    try:
        day = dt.datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=dt.UTC).date()
    except ValueError:
        day = dt.date.min
    if not FIRST_DAY <= day <= LAST_DAY:
        raise typer.BadParameter(f"{text} must be a day from {FIRST_DAY} to {LAST_DAY}, such as 2026-11-23")
    return day


DataDir = Annotated[
    Path, typer.Option(envvar="PROBE_BUILDER_WAREHOUSE_DIR", help="The directory of the warehouse's files.")
]
DEFAULT_DIR = Path("warehouse-data")
SHUTDOWN_SECONDS = 1.0
AWAY = "backendError"


class WarehouseCommandError(UserError):
    """A warehouse cannot be served or asked; the message says why."""


class WarehouseAwayError(WarehouseCommandError, AwayError):
    """The warehouse that is asked does not answer."""

    exit_code = AwayError.exit_code


@app.command("seed")
def seed_command(
    data_dir: DataDir = DEFAULT_DIR,
    clients: Annotated[
        int,
        typer.Option(
            min=1,
            max=1_000_000,
            envvar="PROBE_BUILDER_SAMPLE_CLIENTS",
            help="How many clients of Firefox send pings, each about 12 to a table; half as many of Fenix.",
        ),
    ] = SampleOptions.clients,
    probes: Annotated[
        int,
        typer.Option(
            min=1,
            max=1_000,
            envvar="PROBE_BUILDER_SAMPLE_PROBES",
            help="How many probes; more than the default's are numbered copies.",
        ),
    ] = len(PROBES),
    seed_number: Annotated[int, typer.Option("--seed", min=0, help="Equal seeds make equal pings.")] = 1,
    until: Annotated[
        dt.date | None, typer.Option(parser=_day, metavar="DAY", help="The day of the newest build; default: today.")
    ] = None,
) -> None:
    """Make up pings, in place of those made with other options or for another day; the same are not made again."""
    day = until or dt.datetime.now(dt.UTC).date()
    options = SampleOptions(clients, seed_number, day, sample_probes(probes))
    with progress("Making up pings", steps(options)) as report:
        written = seed(data_dir, options, report)
    log.info("seed_ready", data_dir=str(data_dir), written=written)


@app.command("serve")
def serve_command(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port to listen on; 0 takes a free one.")] = 9050,
    data_dir: DataDir = DEFAULT_DIR,
    host: Annotated[str, typer.Option(help="There is no authentication: keep it private.")] = "127.0.0.1",
    memory: Annotated[
        int, typer.Option(min=100, max=10_000_000, help="Megabytes that all queries together may use.")
    ] = 2_000,
) -> None:
    """Answer BigQuery's REST API until SIGTERM or SIGINT."""
    if host not in ("127.0.0.1", "::1", "localhost"):
        log.warning("warehouse_is_open", host=host, why="whoever reaches the port may query: there are no tokens")
    try:
        asyncio.run(_serve(create_app(data_dir / DATABASE, memory_limit=f"{memory}MB"), host, port))
    except OSError as error:
        raise WarehouseCommandError(str(error)) from None


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
    url: Annotated[
        str | None, typer.Option(callback=given_address, help="Ask a running warehouse instead of opening the file.")
    ] = None,
    form: FormatOption = None,
) -> None:
    """Run a query and print its rows."""
    try:
        columns, rows = over_http(url, sql) if url else run_locally(data_dir / DATABASE, sql)
    except BigQueryError as error:
        kind = WarehouseAwayError if error.reason == AWAY else WarehouseCommandError
        raise kind(error.message) from None
    print_rows(columns, rows, form)


def main() -> None:
    """Run the command by itself, as `python -m warehouse`."""
    program = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
    program.callback(help=ABOUT, epilog=EPILOGUE)(prepare)
    program.registered_commands = app.registered_commands
    run_program("python -m warehouse", partial(program, standalone_mode=False))
