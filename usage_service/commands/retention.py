"""`usage-service retention`: old events leave the log for Parquet files or its mirror, and come back from them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from usage_service.commands.database import Database
from usage_service.log.exported import ParquetSource
from usage_service.log.mirrored import MirrorPlace
from usage_service.projections.rebuilding import owner_connection
from usage_service.retention import Moved, drop_mirrored, drop_old, find_old_range, put_back, put_back_mirrored
from usage_service.shared.commands import telling_what_stays
from usage_service.shared.options import DEFAULT_DATA_DIR, DatabaseUrl, DataDir
from usage_service.shared.progress import progress
from usage_service.shared.settings import MirrorReaderSettings, SettingsError, load_settings
from usage_service.shared.tables import tell

retention_app = typer.Typer(no_args_is_help=True, help="Drop old events once they are exported, or put them back.")


@retention_app.command("drop")
def drop_command(
    keep_days: Annotated[int, typer.Option(min=1, max=36_500, help="drop what was recorded before so many days")],
    directory: Annotated[
        Path | None, typer.Argument(file_okay=False, help="where their Parquet file is to be; not needed with a mirror")
    ] = None,
    url: DatabaseUrl = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Export old events to a new file, or leave them to the mirror, then drop them. Projections keep what they made.

    Where the log has a mirror (USAGE_SERVICE_MIRROR), what that was not found to have is not dropped.
    """
    before = datetime.now(UTC) - timedelta(days=keep_days)
    with telling_what_stays("events are dropped together, all or none: run this again to go on"):
        moved = Database(url, data_dir).run(partial(_drop, directory=directory, before=before))
    said = (
        f"{moved.place}: {moved.events:,} events up to position {moved.upto} were dropped"
        if moved
        else "nothing is older"
    )
    tell(said)


@retention_app.command("restore")
def restore_command(
    files: Annotated[
        list[Path] | None, typer.Argument(exists=True, dir_okay=False, help="what `drop` wrote; else the mirror")
    ] = None,
    url: DatabaseUrl = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Put dropped events back at their positions, so that projections can be rebuilt and verified."""
    database = Database(url, data_dir)
    steps = [partial(_put_back, path=path) for path in files or ()] or [partial(_put_back_mirrored, place=_mirror())]
    for step in steps:
        with telling_what_stays("run this again to go on: events that are back are left out"):
            moved = database.run(step)
        said = f"{moved.place}: {moved.events:,} events are back"
        tell(said)


def _mirror() -> MirrorPlace:
    place = MirrorPlace.of(load_settings(MirrorReaderSettings))
    if place is None:
        raise SettingsError("USAGE_SERVICE_MIRROR: name the mirror of the log, or give files")
    return place


async def _drop(url: str, directory: Path | None, before: datetime) -> Moved | None:
    mirror = None if directory else _mirror().mirror
    async with owner_connection(url) as connection:
        old = await find_old_range(connection, before)
    if old is None:
        return None
    steps = old.last - old.first + 1
    with progress("dropping old events", 2 * steps if directory else steps) as report:
        if directory:
            return await drop_old(url, old, directory, report)
        return await drop_mirrored(url, old, str(mirror), report)


async def _put_back(url: str, path: Path) -> Moved:
    end = await asyncio.to_thread(ParquetSource(path).end)
    with progress(path.name, end) as report:
        return await put_back(url, path, report)


async def _put_back_mirrored(url: str, place: MirrorPlace) -> Moved:
    with progress(place.mirror, None) as report:
        return await put_back_mirrored(url, place, report)
