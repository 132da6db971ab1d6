"""The command `probe-builder night`: builds a list of probes in as few warehouse jobs as possible."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated
from uuid import UUID

import msgspec
import structlog
import typer
import uvloop
from rich.filesize import decimal

from builder.nights.following import ListItem, Nights, NightState
from builder.running import NightResult, open_warehouse, run_night
from builder.settings import MOST_AT_ONCE, BuilderSettings, WarehouseSettings
from builder.usage_api import hot_list
from usage_service.shared.errors import UserError
from usage_service.shared.logs import configure_logs
from usage_service.shared.progress import NotedReport, progress
from usage_service.shared.settings import check_names, load_settings
from usage_service.shared.trace_export import exported_spans

DEFAULT_URL, DEFAULT_BUDGET = "http://127.0.0.1:8080", "500"
MOST_PROBES = 10_000
STDIN = Path("-")
SHOWN = 20  # of the probes that were not built

log = structlog.get_logger(__name__)


class NothingToBuildError(UserError):
    """The list has no probe."""


class _Night:
    """The night that is asked for: its list, and what is told of it."""

    def __init__(self, product: str, channel: str, most_bytes: int | None, report: NotedReport) -> None:
        self.product = product
        self.channel = channel
        self._most_bytes = most_bytes
        self._report = report
        self.probes: list[ListItem] = []
        self.run: str | None = None

    async def ask(self, nights: Nights) -> UUID:
        """Ask for the night."""
        if self.run is not None:
            self.probes = await nights.kept_list(self.run, self.product)
            if not self.probes:
                raise NothingToBuildError(
                    f"--list: no list with probes of {self.product} was kept for the run {self.run}"
                )
        night_id, is_new = await nights.request(self.product, self.channel, self.probes, self._most_bytes)
        log.info("night_asked", night_id=str(night_id), probes=len(self.probes), is_new=is_new)
        if not is_new:
            log.warning("night_goes_on", hint="one of this channel is under way already, with its own list")
        return night_id

    def show(self, state: NightState) -> None:
        """Show how far the night is."""
        read, expected = decimal(state.bytes), decimal(max(state.bytes, state.expected_bytes))
        note = (
            "planning by dry runs"
            if state.state == "planning"
            else f"{read} of {expected}, {state.jobs_over} of {state.jobs} jobs"
        )
        self._report(state.done, note)


def night_command(
    product: Annotated[str, typer.Option(help="fog or fenix")],
    channel: Annotated[str, typer.Option(help="nightly, beta or release")],
    budget: Annotated[
        str | None, typer.Option(help="the hot list of so many probes, or of 500GB, 2.50USD, auto; 500 unless told")
    ] = None,
    run: Annotated[str | None, typer.Option("--list", help="the list that was kept for this run of the ETL")] = None,
    probes: Annotated[
        Path | None, typer.Option(help="a file of names of probes, a line each, the most important first; - for stdin")
    ] = None,
    most_bytes: Annotated[
        int | None, typer.Option(min=0, help="bytes that the night may read; else what is left of the day's")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=MOST_AT_ONCE, help="jobs at a time, instead of PROBE_BUILDER_SHARED_JOBS")
    ] = None,
    url: Annotated[
        str, typer.Option(envvar="USAGE_SERVICE_URL", help="the usage service that has the hot list")
    ] = DEFAULT_URL,
    token: Annotated[str | None, typer.Option(envvar="USAGE_SERVICE_TOKEN", help="its token, which may read")] = None,
) -> None:
    """Build a list of probes in as few warehouse jobs as possible, beside whichever builders run.

    Killed at any moment, it goes on where it was: with the next builder, or run again. Exit code 1 when a probe failed,
    or it was stopped.
    """
    if sum(option is not None for option in (budget, run, probes)) > 1:
        raise typer.BadParameter("give one of --budget, --list and --probes")
    settings = _settings(jobs)
    listed = [] if run is not None else _listed(budget or DEFAULT_BUDGET, probes, product, url, token)
    if sys.stderr.isatty():
        configure_logs("warning")  # what the progress bar says already
    with exported_spans("probe-builder"), progress(f"Building {product} {channel}", len(listed) or None) as report:
        night = _Night(product, channel, most_bytes, report)
        night.probes, night.run = listed, run
        result = uvloop.run(run_night(settings, open_warehouse(settings), night.ask, night.show))
    if result is None:
        print("stopped; the night goes on with the next builder, or when this is run again", file=sys.stderr)
        raise typer.Exit(1)
    _tell(result)
    if result.state.failed or result.state.error:
        raise typer.Exit(1)


def _settings(jobs: int | None) -> BuilderSettings:
    check_names(os.environ, "PROBE_BUILDER_", BuilderSettings, WarehouseSettings)
    settings = load_settings(BuilderSettings)
    return msgspec.structs.replace(settings, shared_jobs=jobs or max(1, settings.shared_jobs))


def _listed(budget: str, file: Path | None, product: str, url: str, token: str | None) -> list[ListItem]:
    if file is None:
        listed = [ListItem(item.probe, item.requests) for item in hot_list(url, token, product, budget)]
        where = f"the hot list of {product} at {url}"
    else:
        listed = [ListItem(name, None) for name in _names(file)]
        where = f"--probes: {file}"
    if not listed:
        raise NothingToBuildError(f"{where} has no probes")
    if len(listed) > MOST_PROBES:
        raise UserError(f"{where} has {len(listed):,} probes; a night has {MOST_PROBES:,} at most")
    return listed


def _names(file: Path) -> Iterable[str]:
    try:
        text = sys.stdin.read() if file == STDIN else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--probes: {file} cannot be read: {error}") from None
    return [name for line in text.splitlines() if (name := line.partition("#")[0].strip())]


def _tell(result: NightResult) -> None:
    state = result.state
    seconds = (state.finished_at - state.requested_at).total_seconds() if state.finished_at else 0
    not_built = f"{state.failed} failed, {state.probes_left} left, {state.cancelled} cancelled"
    print(
        f"{state.built} built, {state.without_data} without enough clients, {state.not_needed} not needed, {not_built}"
    )
    print(f"{state.jobs} jobs read {state.bytes:,} bytes in {seconds:,.1f} s")
    for one in result.not_built[:SHOWN]:
        why = f"{one.code}: {one.message}" if one.outcome != "left" else f"left: it would add {one.bytes or 0:,} bytes"
        print(f"{one.probe}: {' '.join(why.split())}", file=sys.stderr)
    if len(result.not_built) > SHOWN:
        print(f"and {len(result.not_built) - SHOWN} more", file=sys.stderr)
    if state.error:
        print(f"{state.error['code']}: {state.error['message']}", file=sys.stderr)
