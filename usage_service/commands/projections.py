"""`usage-service projections` and `verify`: how far they are; rebuilt, added, dropped, compared; dead letters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from usage_service.commands.database import Database
from usage_service.commands.options import DEFAULT_DATA_DIR, DatabaseUrl, DataDir
from usage_service.projections.rebuilding import (
    Filled,
    Retried,
    TableVerdict,
    Verdict,
    abandon,
    add,
    discard,
    drop,
    owner_connection,
    rebuild,
    retry,
    verify,
)
from usage_service.projections.state import Status, projection_statuses
from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.shared.progress import Report, progress
from usage_service.shared.settings import SettingsError

Names = Annotated[list[str] | None, typer.Argument(help="projections; all of them where none is named")]

projections_app = typer.Typer(
    invoke_without_command=True, help="How far the projections are; rebuild, add or drop one."
)


@projections_app.callback()
def list_command(context: typer.Context, url: DatabaseUrl = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show how far every projection is, and which events it could not fold."""
    context.obj = database = Database(url, data_dir)
    if context.invoked_subcommand is None:
        _show(database.run_as_owner(projection_statuses), Console())


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
    database: Database = context.obj
    changes = _changes(settings or [])
    ended = database.run(partial(_rebuild_all, names=names, changes=changes, restart=restart))
    for name, end in zip(names, ended, strict=True):
        if isinstance(end, Filled):
            where = f"{name}: rebuilt and live, at position {end.position}"
            Console().print(f"{where}{_without(end)}", highlight=False, soft_wrap=True)
    for end in ended:
        if isinstance(end, BaseException):
            database.run(partial(_raise, end))


@projections_app.command("add")
def add_command(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="NAME.sql with tables and fold_NAME()")],
) -> None:
    """Add a projection of your own: filled from history, kept live. Added again after a change, it is replaced."""
    database: Database = context.obj
    end = database.run_as_owner(partial(_add, file=file, statements=file.read_text("utf-8")))
    where = f"{file.stem}: live, at position {end.position}; its tables are in schema {file.stem}"
    Console().print(f"{where}{_without(end)}", highlight=False, soft_wrap=True)


@projections_app.command("drop")
def drop_command(context: typer.Context, name: Annotated[str, typer.Argument()]) -> None:
    """Drop a projection that was added, its tables with it."""
    database: Database = context.obj
    database.run_as_owner(partial(drop, projection=name))
    Console().print(f"{name}: dropped", highlight=False)


@projections_app.command("retry")
def retry_command(context: typer.Context, name: Annotated[str, typer.Argument()]) -> None:
    """Take up again what a projection has set aside, once the cause is mended; exit code 1 where some still fail."""
    database: Database = context.obj
    retried = database.run_as_owner(partial(_retry, name=name))
    Console().print(f"{name}: {retried.folded:,} folded, {retried.still_set_aside:,} still set aside", highlight=False)
    if retried.still_set_aside:
        raise typer.Exit(1)


@projections_app.command("discard")
def discard_command(context: typer.Context, name: Annotated[str, typer.Argument()]) -> None:
    """Give up what a projection has set aside: it stays without these events, until it is rebuilt."""
    database: Database = context.obj
    discarded = database.run_as_owner(partial(discard, projection=name))
    Console().print(f"{name}: {discarded:,} given up", highlight=False)


def verify_command(names: Names = None, url: DatabaseUrl = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Prove that the live projections are what a rebuild makes of the log; exit code 1 and what differs otherwise."""
    database = Database(url, data_dir)
    statuses = [] if names else database.run_as_owner(projection_statuses)
    chosen = names or [status.name for status in statuses if status.stage == "live"]
    verdicts = [database.run_as_owner(partial(_verify, name=name)) for name in chosen]
    for verdict in verdicts:
        _tell(verdict, Console())
    if not all(verdict.equal for verdict in verdicts):
        raise typer.Exit(1)


async def _rebuild_all(
    url: str, names: list[str], changes: dict[str, object], restart: bool
) -> list[Filled | BaseException]:
    """Rebuild all at the same time; return how each was swapped in, or why it was not."""
    async with owner_connection(url) as connection:
        end = await connection.fetchval(query("log", "end"))
    positions = dict.fromkeys(names, 0)
    with progress(f"rebuilding {', '.join(names)}", end * len(names)) as report:

        async def one(name: str) -> Filled:
            def report_all(done: int) -> None:
                positions[name] = done
                report(sum(positions.values()))

            return await _rebuild(url, name, changes, restart, report_all)

        return await asyncio.gather(*(one(name) for name in names), return_exceptions=True)


async def _rebuild(url: str, name: str, changes: dict[str, object], restart: bool, report: Report) -> Filled:
    async with owner_connection(url) as connection:
        if restart:
            await abandon(connection, name, "rebuild")
        return await rebuild(connection, name, changes, report)


async def _raise(error: BaseException, _url: str) -> None:
    raise error


async def _add(owner: Connection, file: Path, statements: str) -> Filled:
    with progress(f"filling {file.stem}", await owner.fetchval(query("log", "end"))) as report:
        return await add(owner, file, statements, report)


async def _retry(owner: Connection, name: str) -> Retried:
    with progress(f"taking up {name}", await owner.fetchval(query("log", "end"))) as report:
        return await retry(owner, name, report)


async def _verify(owner: Connection, name: str) -> Verdict:
    with progress(f"verifying {name}", await owner.fetchval(query("log", "end"))) as report:
        return await verify(owner, name, report)


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
        if status.set_aside and status.error is None:
            state = f"[red]{status.set_aside:,} aside[/red]"
        row = status.name, status.stage, status.version, settings, f"{status.position:,}", f"{status.behind:,}", behind
        table.add_row(*map(str, row), state)
    console.print(table)
    for status in statuses:
        for line in _complaints(status):
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def _complaints(status: Status) -> Iterator[str]:
    name = status.name if status.stage == "live" else f"{status.name} ({status.stage})"
    if status.error is not None:
        since = f"since {status.failed_at:%Y-%m-%d %H:%M:%S} UTC"
        yield f"{name}: cannot go on after position {status.failed_after} {since}: {status.error}"
    for letter in status.dead_letters:
        since = f"since {letter.set_aside_at:%Y-%m-%d %H:%M:%S} UTC"
        yield f"{name}: without the event at position {letter.position} {since}: {letter.error}"
    if more := status.set_aside - len(status.dead_letters):
        yield f"{name}: and without {more:,} more"


def _without(filled: Filled) -> str:
    return f"; without {filled.set_aside:,} events that cannot be folded" if filled.set_aside else ""


def _short(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _tell(verdict: Verdict, console: Console) -> None:
    state = "as rebuilt" if verdict.equal else "DIFFERS from its rebuild"
    without = f", but for {verdict.set_aside:,} events set aside" if verdict.set_aside else ""
    console.print(f"{verdict.projection}: {state} at position {verdict.position}{without}", highlight=False)
    for table in verdict.tables:
        _tell_table(table, console)


def _tell_table(table: TableVerdict, console: Console) -> None:
    line = f"  {table.name}: {table.live_rows:,} rows, hash {table.live_hash}"
    if not table.equal:
        line += f"; rebuilt {table.rebuilt_rows:,} rows, hash {table.rebuilt_hash}"
    console.print(line, highlight=False, soft_wrap=True)
    for where, row in table.differences:
        console.print(f"    only in {where}: {row}", highlight=False, markup=False, soft_wrap=True)
