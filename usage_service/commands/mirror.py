"""`usage-service mirror`: the log in BigQuery, kept by a process, looked at, verified, given up."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated

import msgspec
import typer
import uvloop

from usage_service.commands.database import Database
from usage_service.mirror.mirroring import Mirror, Verified, opened_mirror
from usage_service.mirror.running import APPLICATION, ROLE, limits_of, place_of, run_mirror
from usage_service.mirror.state import mirror_states
from usage_service.queries import query
from usage_service.shared.commands import telling_what_stays
from usage_service.shared.errors import UserError
from usage_service.shared.options import DEFAULT_DATA_DIR, DatabaseUrl, DataDir
from usage_service.shared.postgres import Connection, open_pool
from usage_service.shared.settings import ClientSettings, MirrorSettings, ServerSettings, check_names, load_settings
from usage_service.shared.tables import FormatOption, show, tell

COLUMNS = ("mirror", "state", "position", "verified_to", "begins_after")

mirror_app = typer.Typer(
    invoke_without_command=True, help="Keep a mirror of the log in BigQuery (USAGE_SERVICE_MIRROR) until SIGTERM."
)


class MirrorCommandError(UserError):
    """A mirror is not what it has to be; the message says what to do."""


@mirror_app.callback()
def mirror_command(context: typer.Context) -> None:
    """Keep a mirror of the log in BigQuery (USAGE_SERVICE_MIRROR) until SIGTERM."""
    if context.invoked_subcommand is not None:
        return
    if not uvloop.run(run_mirror(_settings())):
        raise typer.Exit(1)


@mirror_app.command("status")
def status_command(form: FormatOption = None, url: DatabaseUrl = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show how far mirrors are."""
    states = Database(url, data_dir).run_as_owner(mirror_states)
    show([msgspec.to_builtins(state) | {"state": str(state)} for state in states], COLUMNS, form)
    if not states:
        tell("there is no mirror", err=True)


@mirror_app.command("verify")
def verify_command() -> None:
    """Count and hash in BigQuery what was loaded and not verified; fail where it is not what the log had."""
    _run(Mirror.verify)


@mirror_app.command("repair")
def repair_command() -> None:
    """Load again what was found to be other than the log, and verify it; fail where it still is."""
    _run(Mirror.repair)


@mirror_app.command("forget")
def forget_command(
    mirror: Annotated[str, typer.Argument(help="project.dataset")],
    url: DatabaseUrl = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Give a mirror up: retention no longer waits for it. Its tables stay in BigQuery."""
    if not Database(url, data_dir).run_as_owner(partial(_forget, mirror=mirror)):
        raise MirrorCommandError(f"there is no mirror {mirror}; `usage-service mirror status` lists them")
    tell(f"{mirror} is forgotten; its tables are as they were")


def _settings() -> MirrorSettings:
    check_names(os.environ, "USAGE_SERVICE_", MirrorSettings, ServerSettings, ClientSettings)
    return load_settings(MirrorSettings)


def _run(work: Callable[[Mirror], Awaitable[Verified]]) -> None:
    with telling_what_stays("a job that BigQuery was given goes on there; run this again to go on"):
        _tell(asyncio.run(_with_mirror(_settings(), work)))


def _tell(verified: Verified) -> None:
    if verified.differing:
        raise MirrorCommandError(
            f"{verified.differing} of {verified.loads} loads are not what the log had: `usage-service mirror repair` "
            "makes them again, or see docs/guides/mirror.md"
        )
    tell(f"{verified.loads} loads are as in the log")


async def _with_mirror(settings: MirrorSettings, work: Callable[[Mirror], Awaitable[Verified]]) -> Verified:
    async with (
        open_pool(settings.database_url, role=ROLE, application=APPLICATION, size=2) as pool,
        opened_mirror(pool, settings.database_url, place_of(settings), limits_of(settings)) as mirror,
    ):
        return await work(mirror)


async def _forget(connection: Connection, mirror: str) -> int:
    forgotten: int = await connection.fetchval(query("mirror", "forget"), mirror)
    return forgotten
