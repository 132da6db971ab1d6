"""The command `probe-builder night`: builds a list of probes in as few warehouse jobs as possible."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated
from uuid import UUID

import msgspec
import structlog
import typer
import uvloop
from rich.filesize import decimal

from builder.nights.following import NightState, NotBuilt
from builder.running import GOES_ON, NightResult, open_warehouse, run_night
from builder.settings import MOST_AT_ONCE, BuilderSettings, WarehouseSettings
from usage_service.shared.exit_codes import ExitCode
from usage_service.shared.logs import configure_logs
from usage_service.shared.names_file import read_names
from usage_service.shared.options import DEFAULT_URL, Token, Url
from usage_service.shared.progress import NotedReport, progress
from usage_service.shared.remote import RemoteError, send
from usage_service.shared.schema import refuse_missing_database
from usage_service.shared.settings import MOST_BYTES, check_names, load_settings
from usage_service.shared.tables import tell
from usage_service.shared.trace_export import exported_spans

DEFAULT_BUDGET = "500"
SHOWN = 20  # of the probes that were not built
# Why a probe was not even tried, by its outcome.
REASONS = {
    "unknown": "the catalogue has no such probe",
    "unbuildable": "probes of its type are not aggregated",
    "excluded": "it is excluded by an operator",
}

log = structlog.get_logger(__name__)


class AskedNight(msgspec.Struct, frozen=True):
    """The answer to POST /v1/builds/prefetch: the night, whether it is new, and how many probes have each outcome."""

    night_id: UUID
    is_new: bool
    outcomes: dict[str, int]

    @property
    def to_build(self) -> int:
        """Return how many probes are to be built, as far as they fit into the night's bytes."""
        return self.outcomes["created"] + self.outcomes["left"]


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
        int | None,
        typer.Option(min=0, max=MOST_BYTES, help="bytes that the night may read; else what is left of the day's"),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=MOST_AT_ONCE, help="jobs at a time, instead of PROBE_BUILDER_SHARED_JOBS")
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Build a list of probes in as few warehouse jobs as possible, beside whichever builders run.

    Stopped or killed at any moment, it goes on where it was: with the next builder, or run again. Exit code 1 when a
    probe failed.
    """
    if sum(option is not None for option in (budget, run, probes)) > 1:
        raise typer.BadParameter("give one of --budget, --list and --probes")
    settings = _settings(jobs)
    listed: dict[str, object] = {"list": run} if run else {"budget": budget or DEFAULT_BUDGET}
    if probes:
        listed = {"probes": read_names(probes)}
    bytes_limit = {} if most_bytes is None else {"most_bytes": most_bytes}
    if sys.stderr.isatty():
        configure_logs("warning")  # what the progress bar says already
    # Before a night is asked for that others would then have to build.
    warehouse = open_warehouse(settings)
    uvloop.run(refuse_missing_database(settings.database_url))
    asked = _ask(url, token, {"product": product, "channel": channel, **listed, **bytes_limit})
    with exported_spans("probe-builder"), progress(f"Building {product} {channel}", asked.to_build) as report:
        work = run_night(settings, warehouse, asked.night_id, lambda state: _show(report, state))
        result = uvloop.run(work)
    if result is None:
        tell(f"stopped; {GOES_ON}", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED)
    _tell(result)
    if result.state.failed or result.state.error:
        raise typer.Exit(ExitCode.WRONG)


def _settings(jobs: int | None) -> BuilderSettings:
    check_names(os.environ, "PROBE_BUILDER_", BuilderSettings, WarehouseSettings)
    settings = load_settings(BuilderSettings)
    return msgspec.structs.replace(settings, shared_jobs=jobs or max(1, settings.shared_jobs))


def _ask(url: str, token: str | None, body: dict[str, object]) -> AskedNight:
    """Ask the service for the night, or for the one that is under way. Raise RemoteError."""
    try:
        asked = msgspec.json.decode(send(url, token, "POST", "/v1/builds/prefetch", body), type=AskedNight)
    except msgspec.DecodeError as error:
        raise RemoteError(f"{url} is not a usage service: {error}") from None
    log.info("night_asked", night_id=str(asked.night_id), probes=sum(asked.outcomes.values()), is_new=asked.is_new)
    if not asked.is_new:
        log.warning("night_goes_on", hint="one of this channel is under way already, with its own list")
    return asked


def _show(report: NotedReport, state: NightState) -> None:
    """Show how far the night is."""
    read, expected = decimal(state.bytes), decimal(max(state.bytes, state.expected_bytes))
    jobs = f"{read} of {expected}, {state.jobs_over} of {state.jobs} jobs"
    report(state.done - state.not_needed, "planning by dry runs" if state.state == "planning" else jobs)


def _tell(result: NightResult) -> None:
    state = result.state
    seconds = (state.finished_at - state.requested_at).total_seconds() if state.finished_at else 0
    refused = sum(one.outcome in REASONS for one in result.not_built)
    built = f"{state.built} built, {state.without_data} without enough clients, {state.not_needed - refused} not needed"
    not_built = f"{state.failed} failed, {state.probes_left} left, {state.cancelled} cancelled"
    tell(f"{built}, {refused} cannot be built, {not_built}")
    tell(f"{state.jobs} job{'' if state.jobs == 1 else 's'} read {state.bytes:,} bytes in {seconds:,.1f} s")
    for one in result.not_built[:SHOWN]:
        tell(f"{one.probe}: {' '.join(_why(one).split())}", err=True)
    if len(result.not_built) > SHOWN:
        tell(f"and {len(result.not_built) - SHOWN} more", err=True)
    if state.error:
        tell(f"{state.error['code']}: {state.error['message']}", err=True)


def _why(one: NotBuilt) -> str:
    if one.outcome == "left":
        return f"left: it would add {one.bytes or 0:,} bytes"
    return REASONS.get(one.outcome) or f"{one.code}: {one.message}"
