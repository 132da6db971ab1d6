"""`usage-service import`: events, traffic, a catalogue, releases, or an exported log, sent to a running service."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from usage_service.commands.options import DEFAULT_URL, Token, Url
from usage_service.commands.remote import token_or_kept
from usage_service.imports.lines import NO_OPTIONS, Line, Options
from usage_service.imports.posting import ImportStats, Poster, open_session
from usage_service.imports.reading import read_lines
from usage_service.imports.source import Source, open_source
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
    product: Annotated[str | None, typer.Option(help="of a file that does not say it")] = None,
    channel: Annotated[str | None, typer.Option(help="of a file that does not say it")] = None,
    format_name: Annotated[str | None, typer.Option("--format", help="else the content tells it")] = None,
) -> None:
    """Send events, page requests, a catalogue, releases, revisions or an exported log. Nothing is added twice."""
    refused = False
    for path in files:
        options = Options(product, channel)
        stats = asyncio.run(import_file(path, url, token_or_kept(token), options, format_name))
        _tell(path, stats)
        refused = refused or bool(stats.refusals)
    if refused:
        raise typer.Exit(1)


async def import_file(
    path: Path, url: str, token: str | None, options: Options = NO_OPTIONS, format_name: str | None = None
) -> ImportStats:
    """Send one file and return what became of its events."""
    async with open_session(token) as session:
        poster = Poster(session, url)
        if _is_export(path):
            with open_file(path) as file, progress(path.name, file.size) as report:
                await _restore(poster, path, file, report)
        else:
            with open_source(path) as source, progress(path.name, source.size or 0) as report:
                await _post_all(poster, source, read_lines(source, options, format_name), report)
        return poster.stats


def _is_export(path: Path) -> bool:
    with open_file(path) as file:
        return is_export(path, file.first_line)


async def _post_all(poster: Poster, source: Source, found: Iterator[Line], report: Report) -> None:
    batches = _batches(found)
    while under_way := list(islice(batches, BATCHES_UNDER_WAY)):
        async with asyncio.TaskGroup() as group:
            for lines in under_way:
                group.create_task(_post(poster, source.name, lines))
        report(source.bytes_read())


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


async def _post(poster: Poster, name: str, lines: list[Line]) -> None:
    for line in lines:
        if line.refusal:
            poster.stats.refuse(f"{name}:{line.number}: {line.refusal}")
    sent = [(event, f"{name}:{line.number}") for line in lines for event in line.events]
    if sent:
        await poster.post([event for event, _ in sent], [origin for _, origin in sent])


def _tell(path: Path, stats: ImportStats) -> None:
    counts = ", ".join(f"{number:,} {status}" for status, number in sorted(stats.statuses.items())) or "nothing in it"
    Console().print(f"{path}: {counts}", highlight=False, markup=False, soft_wrap=True)
    for why in stats.refusals:
        Console(stderr=True).print(f"  refused {why}", style="red", highlight=False, markup=False, soft_wrap=True)
