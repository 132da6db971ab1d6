"""The commands `probe-builder failed` and `retry`, of builds that failed for good."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

import msgspec
import typer

from builder.dead_letters import QUEUED, failed_builds, retry_builds
from usage_service.shared.local_services import database_url
from usage_service.shared.options import DEFAULT_DATA_DIR, DatabaseUrl, DataDir
from usage_service.shared.tables import FormatOption, show

COLUMNS = ("build_id", "probe", "code", "message", "product", "channel", "attempt", "finished_at")


def failed_command(form: FormatOption = None, url: DatabaseUrl = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show the builds that failed for good and were not asked for again since, the newest first."""
    builds = asyncio.run(failed_builds(database_url(url, data_dir)))
    show([msgspec.to_builtins(build) for build in builds], COLUMNS, form)


def retry_command(
    build_ids: Annotated[
        list[UUID] | None, typer.Argument(metavar="BUILD_ID...", help="as `failed` lists them")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="all that `failed` lists")] = False,
    form: FormatOption = None,
    url: DatabaseUrl = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Queue failed builds again; exit code 1 where one of them cannot be."""
    if bool(build_ids) == every:
        raise typer.BadParameter("name builds, or give --all")
    found = database_url(url, data_dir)
    chosen = [build.build_id for build in asyncio.run(failed_builds(found))] if every else build_ids or []
    outcomes = asyncio.run(retry_builds(found, chosen))
    rows = [{"build_id": str(build_id), "outcome": outcome} for build_id, outcome in outcomes.items()]
    show(rows, ("build_id", "outcome"), form)
    if any(outcome != QUEUED for outcome in outcomes.values()):
        raise typer.Exit(1)
