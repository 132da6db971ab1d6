"""`usage-service import`: events, traffic, a catalogue, releases, or an exported log, sent to a running service."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from usage_service.commands.options import DEFAULT_URL, Token, Url
from usage_service.commands.remote import token_or_kept
from usage_service.imports.formats import Line, read_lines
from usage_service.imports.posting import ImportStats, Poster, open_session
from usage_service.imports.product_details import FIREFOX, ReleasesOf
from usage_service.log.exports import is_export, parquet_lines
from usage_service.shared.files import OpenFile, open_file
from usage_service.shared.progress import Report, progress

LINES_A_BATCH = 450  # at most two events a line, at most 1,000 a request
BATCHES_UNDER_WAY = 4
RESTORED_BYTES = 900_000  # a request, of 1 MiB at most


def import_command(
    files: Annotated[
        list[Path],
        typer.Argument(exists=True, dir_okay=False, help="NDJSON or CSV, may be gzipped; Parquet of an export"),
    ],
    url: Url = DEFAULT_URL,
    token: Token = None,
    product: Annotated[str, typer.Option(help="of releases of product-details, and of revisions")] = FIREFOX.product,
    channel: Annotated[
        str | None, typer.Option(help="of those releases; else `release`, or each channel that the file tells of")
    ] = None,
) -> None:
    """Send events, page requests, a catalogue, releases, revisions or an exported log. Nothing is added twice."""
    refused = False
    for path in files:
        recorded_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        stats = asyncio.run(import_file(path, recorded_at, url, token_or_kept(token), ReleasesOf(product, channel)))
        _tell(path, stats)
        refused = refused or bool(stats.refusals)
    if refused:
        raise typer.Exit(1)


async def import_file(
    path: Path, recorded_at: datetime, url: str, token: str | None, of: ReleasesOf = FIREFOX
) -> ImportStats:
    """Send one file and return what became of its events.

    A catalogue's events are given the time `recorded_at`, releases are `of`.
    """
    with open_file(path) as file, progress(path.name, file.size) as report:
        async with open_session(token) as session:
            poster = Poster(session, url)
            if is_export(path, file.first_line):
                await _restore(poster, path, file, report)
            else:
                await _post_all(poster, path, file, read_lines(file.unpacked, path, recorded_at, of), report)
            return poster.stats


async def _post_all(poster: Poster, path: Path, file: OpenFile, found: Iterator[Line], report: Report) -> None:
    batches = _batches(found)
    while under_way := list(islice(batches, BATCHES_UNDER_WAY)):
        async with asyncio.TaskGroup() as group:
            for lines in under_way:
                group.create_task(_post(poster, path, lines))
        report(file.bytes_read())


async def _restore(poster: Poster, path: Path, file: OpenFile, report: Report) -> None:
    """Restore one batch after the other: positions must rise."""
    lines = parquet_lines(path) if path.suffix == ".parquet" else (line.rstrip(b"\n") for line in file.unpacked)
    batch: list[bytes] = []
    origins: list[str] = []
    size = 0
    for number, line in enumerate(lines, 1):
        if batch and size + len(line) > RESTORED_BYTES:
            await poster.restore(batch, origins)
            report(file.bytes_read())
            batch, origins, size = [], [], 0
        if line.strip():  # what is empty is not counted
            batch.append(line)
            origins.append(f"{path.name}:{number}")
            size += len(line) + 1
    if batch:
        await poster.restore(batch, origins)


def _batches(lines: Iterator[Line]) -> Iterator[list[Line]]:
    while batch := list(islice(lines, LINES_A_BATCH)):
        yield batch


async def _post(poster: Poster, path: Path, lines: list[Line]) -> None:
    for line in lines:
        if line.error:
            poster.stats.refuse(f"{path.name}:{line.number}: {line.error}")
    sent = [(event, f"{path.name}:{line.number}") for line in lines for event in line.events]
    if sent:
        await poster.post([event for event, _ in sent], [origin for _, origin in sent])


def _tell(path: Path, stats: ImportStats) -> None:
    counts = ", ".join(f"{number:,} {status}" for status, number in sorted(stats.statuses.items())) or "nothing in it"
    Console().print(f"{path}: {counts}", highlight=False, markup=False, soft_wrap=True)
    for why in stats.refusals:
        Console(stderr=True).print(f"  refused {why}", style="red", highlight=False, markup=False, soft_wrap=True)
