"""The commands `probe-builder failed` and `retry`, of builds that failed for good."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated
from uuid import UUID

import typer

from builder.dead_letters import QUEUED, FailedBuild, failed_builds, retry_builds
from usage_service.shared.settings import DatabaseSettings, load_settings


def failed_command() -> None:
    """List the builds that failed for good and were not asked for again since: a line each, the newest first."""
    for build in asyncio.run(failed_builds(load_settings(DatabaseSettings).database_url)):
        print(_line(build))


def retry_command(
    build_ids: Annotated[
        list[UUID] | None, typer.Argument(metavar="BUILD_ID...", help="as `failed` lists them")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="all that `failed` lists")] = False,
) -> None:
    """Queue failed builds again; exit code 1 and a line each for those that cannot be."""
    if bool(build_ids) == every:
        raise typer.BadParameter("name builds, or give --all")
    url = load_settings(DatabaseSettings).database_url
    chosen = [build.build_id for build in asyncio.run(failed_builds(url))] if every else build_ids or []
    outcomes = asyncio.run(retry_builds(url, chosen))
    for build_id, outcome in outcomes.items():
        print(f"{build_id} {outcome}", file=sys.stdout if outcome == QUEUED else sys.stderr)
    if any(outcome != QUEUED for outcome in outcomes.values()):
        raise typer.Exit(1)


def _line(build: FailedBuild) -> str:
    where = f"{build.product}/{build.channel}/{build.probe}"
    why = " ".join(f"{build.code}: {build.message}".split())
    return f"{build.build_id} {where} {build.finished_at:%Y-%m-%dT%H:%M:%SZ} attempts={build.attempt} {why}"
