"""`usage-service projections` and `verify`: how far they are; rebuilt, added, dropped, compared with a rebuild."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import asyncpg
import msgspec
import typer
from rich.console import Console
from rich.table import Table

from usage_service.local.database import database_url
from usage_service.projections.rebuilding import (
    MaintenanceError,
    TableVerdict,
    Verdict,
    abandon,
    add,
    drop,
    owner_connection,
    rebuild,
    verify,
)
from usage_service.projections.runner import UnfoldableError
from usage_service.projections.state import Status, projection_statuses
from usage_service.queries import query
from usage_service.shared.logs import configure_logs
from usage_service.shared.postgres import UNAVAILABLE
from usage_service.shared.progress import Report, progress
from usage_service.shared.settings import SettingsError

Result = TypeVar("Result")

Url = Annotated[str | None, typer.Option("--database-url", envvar="DATABASE_URL", help="of the database's owner")]
DataDir = Annotated[Path, typer.Option(file_okay=False, help="of `usage-service up`, where no URL is given")]
Names = Annotated[list[str] | None, typer.Argument(help="projections; all of them where none is named")]
DEFAULT_DATA_DIR = Path("data")

projections_app = typer.Typer(
    invoke_without_command=True, help="How far the projections are; rebuild, add or drop one."
)


@projections_app.callback()
def list_command(context: typer.Context, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show how far every projection is, and which event one cannot fold."""
    configure_logs(os.environ.get("LOG_LEVEL", "info"))
    context.obj = database_url(url, data_dir)
    if context.invoked_subcommand is None:
        _show(run_work(_statuses(context.obj)), Console())


@projections_app.command("rebuild")
def rebuild_command(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="projections to rebuild")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="another setting, such as gap_minutes=45")
    ] = None,
    restart: Annotated[bool, typer.Option(help="begin anew rather than go on with one that was begun")] = False,
) -> None:
    """Fill projections anew, at the same time, and swap them in one by one; interrupted, run it again to go on."""
    changes = _changes(settings or [])
    ended = run_work(_rebuild_all(context.obj, names, changes, restart))
    for name, end in zip(names, ended, strict=True):
        if isinstance(end, int):
            Console().print(f"{name}: rebuilt and live, at position {end}", highlight=False)
    for end in ended:
        if isinstance(end, BaseException):
            run_work(_raise(end))


@projections_app.command("add")
def add_command(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="NAME.sql with tables and fold_NAME()")],
) -> None:
    """Add a projection of your own: filled from history, kept live. Added again after a change, it is replaced."""
    position = run_work(_add(context.obj, file, file.read_text("utf-8")))
    Console().print(f"{file.stem}: live, at position {position}; its tables are in schema {file.stem}", highlight=False)


@projections_app.command("drop")
def drop_command(context: typer.Context, name: Annotated[str, typer.Argument()]) -> None:
    """Drop a projection that was added, its tables with it."""
    run_work(_drop(context.obj, name))
    Console().print(f"{name}: dropped", highlight=False)


def verify_command(names: Names = None, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Prove that the live projections are what a rebuild makes of the log; exit code 1 and what differs otherwise."""
    configure_logs(os.environ.get("LOG_LEVEL", "info"))
    found = database_url(url, data_dir)
    chosen = names or [status.name for status in run_work(_statuses(found)) if status.stage == "live"]
    verdicts = [run_work(_verify(found, name)) for name in chosen]
    for verdict in verdicts:
        _tell(verdict, Console())
    if not all(verdict.equal for verdict in verdicts):
        raise typer.Exit(1)


def run_work(work: Coroutine[object, object, Result]) -> Result:
    """Runs work on the database; MaintenanceError where that ends it."""
    try:
        return asyncio.run(work)
    except UnfoldableError as error:
        raise MaintenanceError(f"cannot fold {error}") from error
    except (*UNAVAILABLE, asyncpg.PostgresError) as error:
        raise MaintenanceError(f"the database ended it: {str(error) or repr(error)}; run it again to go on") from error


async def _statuses(url: str) -> list[Status]:
    async with owner_connection(url) as connection:
        return await projection_statuses(connection)


async def _rebuild_all(
    url: str, names: list[str], changes: dict[str, object], restart: bool
) -> list[int | BaseException]:
    """Where each was swapped in, or why it was not."""
    async with owner_connection(url) as connection:
        end = await connection.fetchval(query("log", "end"))
    positions = dict.fromkeys(names, 0)
    with progress(f"rebuilding {', '.join(names)}", end * len(names)) as report:

        async def one(name: str) -> int:
            def report_all(done: int) -> None:
                positions[name] = done
                report(sum(positions.values()))

            return await _rebuild(url, name, changes, restart, report_all)

        return await asyncio.gather(*(one(name) for name in names), return_exceptions=True)


async def _rebuild(url: str, name: str, changes: dict[str, object], restart: bool, report: Report) -> int:
    async with owner_connection(url) as connection:
        if restart:
            await abandon(connection, name, "rebuild")
        return await rebuild(connection, name, changes, report)


async def _raise(error: BaseException) -> None:
    raise error


async def _add(url: str, file: Path, statements: str) -> int:
    async with owner_connection(url) as connection:
        with progress(f"filling {file.stem}", await connection.fetchval(query("log", "end"))) as report:
            return await add(connection, file, statements, report)


async def _drop(url: str, name: str) -> None:
    async with owner_connection(url) as connection:
        await drop(connection, name)


async def _verify(url: str, name: str) -> Verdict:
    async with owner_connection(url) as connection:
        with progress(f"verifying {name}", await connection.fetchval(query("log", "end"))) as report:
            return await verify(connection, name, report)


def _changes(settings: list[str]) -> dict[str, object]:
    changes: dict[str, object] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise SettingsError(f"--set {setting}: give NAME=VALUE")
        try:
            changes[name] = json.loads(value)
        except ValueError:
            changes[name] = value
    return changes


def _show(statuses: list[Status], console: Console) -> None:
    table = Table("projection", "stage", "version", box=None)
    table.add_column("settings", overflow="fold")
    for column in ("position", "behind", "for", "state"):
        table.add_column(column, no_wrap=True)
    for status in statuses:
        settings = " ".join(f"{name}={_short(value)}" for name, value in status.settings.items())
        behind = str(timedelta(seconds=round(status.behind_seconds)))
        state = "up" if status.error is None else "[red]stuck[/red]"
        row = status.name, status.stage, status.version, settings, f"{status.position:,}", f"{status.behind:,}", behind
        table.add_row(*map(str, row), state)
    console.print(table)
    for status in statuses:
        if status.error is not None:
            where = f"{status.name}: the event after position {status.failed_after} cannot be folded since"
            console.print(
                f"{where} {status.failed_at:%Y-%m-%d %H:%M:%S} UTC: {status.error}", highlight=False, markup=False
            )


def _short(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _tell(verdict: Verdict, console: Console) -> None:
    state = "as rebuilt" if verdict.equal else "DIFFERS from its rebuild"
    console.print(f"{verdict.projection}: {state} at position {verdict.position}", highlight=False)
    for table in verdict.tables:
        _tell_table(table, console)


def _tell_table(table: TableVerdict, console: Console) -> None:
    line = f"  {table.name}: {table.live_rows:,} rows, hash {table.live_hash}"
    if not table.equal:
        line += f"; rebuilt {table.rebuilt_rows:,} rows, hash {table.rebuilt_hash}"
    console.print(line, highlight=False, soft_wrap=True)
    for where, row in table.differences:
        console.print(f"    only in {where}: {row}", highlight=False, markup=False, soft_wrap=True)
