"""`usage-service import`: files of events, traffic or a catalogue, posted to a running service."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from usage_service.importing import Line, open_file, read_lines
from usage_service.posting import Poster, Tally, open_session
from usage_service.shared.logs import configure_logs
from usage_service.shared.progress import progress

LINES_A_BATCH = 450  # at most two events a line, at most 1,000 a request
BATCHES_UNDER_WAY = 4
DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_TOKEN_FILE = Path("data/token")


def import_command(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="NDJSON or CSV, may be gzipped")],
    url: Annotated[str, typer.Option(envvar="USAGE_SERVICE_URL", help="where the service is")] = DEFAULT_URL,
    token: Annotated[str | None, typer.Option(envvar="USAGE_SERVICE_TOKEN", show_default="data/token")] = None,
) -> None:
    """Post events, page requests or a catalogue. Running it again adds nothing twice and goes on where it stopped."""
    configure_logs(os.environ.get("LOG_LEVEL", "info"))
    if token is None and DEFAULT_TOKEN_FILE.exists():
        token = DEFAULT_TOKEN_FILE.read_text().strip()
    refused = False
    for path in files:
        recorded_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        tally = asyncio.run(import_file(path, recorded_at, url, token))
        _tell(path, tally)
        refused = refused or bool(tally.refusals)
    if refused:
        raise typer.Exit(1)


async def import_file(path: Path, recorded_at: datetime, url: str, token: str | None) -> Tally:
    """Posts one file; a catalogue's events are given the time `recorded_at`. Answers what became of the events."""
    with open_file(path) as file, progress(path.name, file.size) as report:
        async with open_session(token) as session:
            poster = Poster(session, url)
            batches = _batches(read_lines(file.unpacked, path, recorded_at))
            while under_way := list(islice(batches, BATCHES_UNDER_WAY)):
                async with asyncio.TaskGroup() as group:
                    for lines in under_way:
                        group.create_task(_post(poster, path, lines))
                report(file.bytes_read())
            return poster.tally


def _batches(lines: Iterator[Line]) -> Iterator[list[Line]]:
    while batch := list(islice(lines, LINES_A_BATCH)):
        yield batch


async def _post(poster: Poster, path: Path, lines: list[Line]) -> None:
    for line in lines:
        if line.error:
            poster.tally.refuse(f"{path.name}:{line.number}: {line.error}")
    sent = [(event, f"{path.name}:{line.number}") for line in lines for event in line.events]
    if sent:
        await poster.post([event for event, _ in sent], [origin for _, origin in sent])


def _tell(path: Path, tally: Tally) -> None:
    counts = ", ".join(f"{number:,} {status}" for status, number in sorted(tally.statuses.items())) or "nothing in it"
    Console().print(f"{path}: {counts}", highlight=False, markup=False, soft_wrap=True)
    for why in tally.refusals:
        Console(stderr=True).print(f"  refused {why}", style="red", highlight=False, markup=False, soft_wrap=True)
