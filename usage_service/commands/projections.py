"""`usage-service projections` and `verify`: how far they are; rebuilt, added, dropped, compared; dead letters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from usage_service.commands.database import Database
from usage_service.log.mirrored import MirrorPlace, require_client
from usage_service.projections.rebuilding import (
    Filled,
    Retried,
    TableVerdict,
    Verdict,
    Warehouse,
    abandon,
    abandon_all,
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
from usage_service.shared.commands import telling_what_stays
from usage_service.shared.files import decoded
from usage_service.shared.options import DEFAULT_DATA_DIR, DatabaseUrl, DataDir, refuse_misplaced
from usage_service.shared.postgres import Connection
from usage_service.shared.progress import Report, progress
from usage_service.shared.settings import MIRROR, MirrorReaderSettings, SettingsError, load_settings
from usage_service.shared.tables import FormatOption, RowsOption, show, tell


class Place(StrEnum):
    """Place other than PostgreSQL in which projections can be computed."""

    BIGQUERY = "bigquery"


In = Annotated[
    Place | None,
    typer.Option(
        "--in", help="compute popularity and sessions there, from the mirror of the log; the rest from the log"
    ),
]
KEPT = "what was filled stays: run this again to go on, or `usage-service projections abandon` drops it"
Name = Annotated[str, typer.Argument(help="of the projection")]
Names = Annotated[list[str] | None, typer.Argument(help="projections; all of them where none is named")]

COLUMNS = ("name", "stage", "version", "position", "behind", "for", "state", "settings")
VERIFIED = ("projection", "position", "table", "equal", "live_rows", "rebuilt_rows", "set_aside", "differences")

projections_app = typer.Typer(
    invoke_without_command=True, help="How far the projections are; rebuild, add or drop one."
)


@projections_app.callback()
def list_command(
    context: typer.Context,
    form: FormatOption = None,
    url: DatabaseUrl = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show how far every projection is, and which events it could not fold."""
    if context.invoked_subcommand is not None:
        refuse_misplaced(context)
        return
    statuses = Database(url, data_dir).run_as_owner(projection_statuses)
    show([_row(status) for status in statuses], COLUMNS, form)
    for line in (line for status in statuses for line in _complaints(status)):
        tell(line, err=True)


@projections_app.command("rebuild")
def rebuild_command(
    names: Annotated[list[str], typer.Argument(help="projections to rebuild")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="another setting, such as gap_minutes=45")
    ] = None,
    restart: Annotated[bool, typer.Option(help="begin anew rather than go on with one that was begun")] = False,
    computed_in: In = None,
    url: DatabaseUrl = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Fill projections anew, at the same time, and swap them in one by one; interrupted, run it again to go on."""
    database = Database(url, data_dir)
    changes = _changes(settings or [])
    one = partial(_rebuild, changes=changes, restart=restart, warehouse=_warehouse(computed_in))
    with telling_what_stays(KEPT):
        ended = database.run(partial(_rebuild_all, names=names, rebuild_one=one))
    for name, end in zip(names, ended, strict=True):
        if isinstance(end, Filled):
            where = f"{name}: rebuilt and live, at position {end.position}"
            tell(f"{where}{_without(end)}")
    failures = [(name, end) for name, end in zip(names, ended, strict=True) if isinstance(end, BaseException)]
    for name, failure in failures[1:]:
        tell(f"{name}: {str(failure) or repr(failure)}", err=True, color="red")
    for _, failure in failures[:1]:
        database.run(partial(_raise, failure))


@projections_app.command("add")
def add_command(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="NAME.sql with tables and fold_NAME()")],
    url: DatabaseUrl = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Add a projection of your own: filled from history, kept live. Added again after a change, it is replaced."""
    try:
        statements = decoded(file.read_bytes())
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{file} is not SQL in UTF-8: {error}", param_hint="FILE") from None
    with telling_what_stays(KEPT):
        end = Database(url, data_dir).run_as_owner(partial(_add, file=file, statements=statements))
    where = f"{file.stem}: live, at position {end.position}; its tables are in schema {file.stem}"
    tell(f"{where}{_without(end)}")


@projections_app.command("drop")
def drop_command(name: Name, url: DatabaseUrl = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Drop a projection that was added, its tables with it."""
    database = Database(url, data_dir)
    database.run_as_owner(partial(drop, projection=name))
    tell(f"{name}: dropped")


@projections_app.command("abandon")
def abandon_command(name: Name, url: DatabaseUrl = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Give up what was begun and interrupted, to rebuild, add or verify a projection; the live one stays."""
    Database(url, data_dir).run_as_owner(partial(abandon_all, projection=name))
    tell(f"{name}: what was filled beside it is dropped")


@projections_app.command("retry")
def retry_command(name: Name, url: DatabaseUrl = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Take up again what a projection has set aside, once the cause is mended; exit code 1 where some still fail."""
    database = Database(url, data_dir)
    with telling_what_stays("what is set aside stays so: run this again to go on"):
        retried = database.run_as_owner(partial(_retry, name=name))
    tell(f"{name}: {retried.folded:,} folded, {retried.still_set_aside:,} still set aside")
    if retried.still_set_aside:
        raise typer.Exit(1)


@projections_app.command("discard")
def discard_command(name: Name, url: DatabaseUrl = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Give up what a projection has set aside: it stays without these events, until it is rebuilt."""
    database = Database(url, data_dir)
    discarded = database.run_as_owner(partial(discard, projection=name))
    tell(f"{name}: {discarded:,} given up")


def verify_command(
    names: Names = None,
    form: RowsOption = None,
    computed_in: In = None,
    url: DatabaseUrl = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Prove that the live projections are what a rebuild makes of the log; exit code 1 and what differs otherwise."""
    database, warehouse = Database(url, data_dir), _warehouse(computed_in)
    if warehouse:
        chosen = names or warehouse.projections
    else:
        statuses = [] if names else database.run_as_owner(projection_statuses)
        chosen = names or [status.name for status in statuses if status.stage == "live"]
    with telling_what_stays(KEPT):
        verdicts = [database.run_as_owner(partial(_verify, name=name, warehouse=warehouse)) for name in chosen]
    if form:
        show([row for verdict in verdicts for row in _verified(verdict)], VERIFIED, form)
    else:
        for verdict in verdicts:
            _tell(verdict)
    if not all(verdict.equal for verdict in verdicts):
        raise typer.Exit(1)


def _warehouse(computed_in: Place | None) -> Warehouse | None:
    if computed_in is None:
        return None
    settings = load_settings(MirrorReaderSettings)
    place = MirrorPlace.of(settings)
    if place is None:
        raise SettingsError(f"{MIRROR}: --in bigquery computes from the mirror of the log; name its project.dataset")
    require_client()
    from usage_service.mirror.filling import MirrorFilling  # needs the client of BigQuery

    return MirrorFilling(place)


async def _rebuild_all(
    url: str, names: list[str], rebuild_one: Callable[[str, str, Report], Awaitable[Filled]]
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

            return await rebuild_one(url, name, report_all)

        return await asyncio.gather(*(one(name) for name in names), return_exceptions=True)


async def _rebuild(
    url: str, name: str, report: Report, *, changes: dict[str, object], restart: bool, warehouse: Warehouse | None
) -> Filled:
    async with owner_connection(url) as connection:
        if restart:
            await abandon(connection, name, "rebuild")
        return await rebuild(connection, name, changes, report, warehouse)


async def _raise(error: BaseException, _url: str) -> None:
    raise error


async def _add(owner: Connection, file: Path, statements: str) -> Filled:
    with progress(f"filling {file.stem}", await owner.fetchval(query("log", "end"))) as report:
        return await add(owner, file, statements, report)


async def _retry(owner: Connection, name: str) -> Retried:
    with progress(f"taking up {name}", await owner.fetchval(query("log", "end"))) as report:
        return await retry(owner, name, report)


async def _verify(owner: Connection, name: str, warehouse: Warehouse | None) -> Verdict:
    with progress(f"verifying {name}", await owner.fetchval(query("log", "end"))) as report:
        return await verify(owner, name, report, warehouse)


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


def _row(status: Status) -> dict[str, object]:
    state = "stuck" if status.error is not None else f"{status.set_aside:,} aside" if status.set_aside else "up"
    settings = " ".join(f"{name}={_short(value)}" for name, value in status.settings.items())
    shown = {"for": str(timedelta(seconds=round(status.behind_seconds))), "state": state, "settings": settings}
    whole: dict[str, object] = msgspec.to_builtins(status)
    return whole | {"values": status.settings} | shown


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


def _verified(verdict: Verdict) -> Iterator[dict[str, object]]:
    for table in verdict.tables:
        yield {
            "projection": verdict.projection,
            "position": verdict.position,
            "table": table.name,
            "equal": table.equal,
            "live_rows": table.live_rows,
            "rebuilt_rows": table.rebuilt_rows,
            "set_aside": verdict.set_aside,
            "differences": [f"only in {where}: {row}" for where, row in table.differences],
        }


def _tell(verdict: Verdict) -> None:
    state = "as rebuilt" if verdict.equal else "DIFFERS from its rebuild"
    without = f", but for {verdict.set_aside:,} events set aside" if verdict.set_aside else ""
    tell(f"{verdict.projection}: {state} at position {verdict.position}{without}")
    for table in verdict.tables:
        _tell_table(table)


def _tell_table(table: TableVerdict) -> None:
    line = f"  {table.name}: {table.live_rows:,} rows, hash {table.live_hash}"
    if not table.equal:
        line += f"; rebuilt {table.rebuilt_rows:,} rows, hash {table.rebuilt_hash}"
    tell(line)
    for where, row in table.differences:
        tell(f"    only in {where}: {row}")
