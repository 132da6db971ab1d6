"""`usage-service retention`: old events leave the log for Parquet files, and come back from them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from usage_service.commands.database import Database
from usage_service.commands.options import DEFAULT_DATA_DIR, DatabaseUrl, DataDir
from usage_service.log.exported import ParquetSource
from usage_service.projections.rebuilding import owner_connection
from usage_service.retention import Moved, drop_old, find_old_range, put_back
from usage_service.shared.progress import progress

retention_app = typer.Typer(no_args_is_help=True, help="Drop old events once they are exported, or put them back.")


@retention_app.command("drop")
def drop_command(
    directory: Annotated[Path, typer.Argument(file_okay=False, help="where their Parquet file is to be")],
    keep_days: Annotated[int, typer.Option(min=1, help="drop what was recorded before so many days")],
    url: DatabaseUrl = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Export old events to a new file, then drop them. Projections keep what they made of them."""
    before = datetime.now(UTC) - timedelta(days=keep_days)
    moved = Database(url, data_dir).run(partial(_drop, directory=directory, before=before))
    said = (
        f"{moved.path}: {moved.events:,} events up to position {moved.upto} were dropped"
        if moved
        else "nothing is older"
    )
    Console().print(said, highlight=False, markup=False, soft_wrap=True)


@retention_app.command("restore")
def restore_command(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="what `drop` wrote")],
    url: DatabaseUrl = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Put dropped events back at their positions, so that projections can be rebuilt and verified."""
    for path in files:
        moved = Database(url, data_dir).run(partial(_put_back, path=path))
        Console().print(f"{path}: {moved.events:,} events are back", highlight=False, markup=False, soft_wrap=True)


async def _drop(url: str, directory: Path, before: datetime) -> Moved | None:
    async with owner_connection(url) as connection:
        old = await find_old_range(connection, before)
    if old is None:
        return None
    with progress("dropping old events", 2 * (old.last - old.first + 1)) as report:
        return await drop_old(url, old, directory, report)


async def _put_back(url: str, path: Path) -> Moved:
    end = await asyncio.to_thread(ParquetSource(path).end)
    with progress(path.name, end) as report:
        return await put_back(url, path, report)
