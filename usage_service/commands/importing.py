"""`usage-service import`: files of many formats, sent to a running service."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from usage_service.commands.times import read_time
from usage_service.imports.importing import KeepRefused, import_file, try_file
from usage_service.imports.lines import ONE_HOST, Options
from usage_service.imports.reading import BY_NAME, format_named
from usage_service.imports.refusals import UnreadableFileError
from usage_service.imports.rules import read_rules
from usage_service.imports.stats import ImportStats
from usage_service.shared.commands import telling_what_stays
from usage_service.shared.exit_codes import ExitCode
from usage_service.shared.files import STDOUT
from usage_service.shared.options import DEFAULT_URL, Token, Url, refuse_overwriting
from usage_service.shared.remote import token_or_kept
from usage_service.shared.table_layout import Column
from usage_service.shared.tables import show_table, tell, visible

NAMES = ", ".join(BY_NAME)
MOST_PATHS_TOLD = 10
GOES_ON = "run this again to go on: nothing is added twice"
Read = Callable[[Path], ImportStats]


def import_command(
    files: Annotated[list[Path], typer.Argument(help="packed by gzip or zstd, or not; - for the standard input")],
    url: Url = DEFAULT_URL,
    token: Token = None,
    format_name: Annotated[
        str | None, typer.Option("--format", help=f"else the content tells it: {NAMES}", metavar="NAME")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="show the first events and the numbers, send nothing")] = False,
    refused: Annotated[
        Path | None, typer.Option(help="file for the refused lines, a JSON object each", dir_okay=False)
    ] = None,
    host: Annotated[
        str, typer.Option(help="of the files: equal lines of two hosts are two", show_default=False)
    ] = ONE_HOST,
    rules: Annotated[
        Path | None, typer.Option(help="which request is a view of which probe (TOML)", exists=True, dir_okay=False)
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(parser=read_time, metavar="TIME", help="when what has no time in the file was so; else now"),
    ] = None,
    product: Annotated[str | None, typer.Option(help="of files that do not say it")] = None,
    channel: Annotated[str | None, typer.Option(help="of files that do not say it")] = None,
) -> None:
    """Send what files tell to a running service. To run it again goes on where it was, and adds nothing twice.

    docs/imports.md has the fields of each format, docs/guides/history.md says how to go about it.

    The exit code is 1 when a line was refused or one of the files could not be read, 2 when none could, 3 when the
    service does not answer.
    """
    _check(format_name, rules)
    options = Options(product, channel, host, rules, as_of)
    with _refused_lines(refused, [*files, rules]) as keep_refused:

        def read(path: Path) -> ImportStats:
            if dry_run:
                return _try(path, options, format_name, keep_refused)
            return asyncio.run(import_file(path, url, token_or_kept(token), options, format_name, keep_refused))

        with telling_what_stays("nothing was sent" if dry_run else GOES_ON):
            exit_code = _read_all(files, read)
    if exit_code:
        raise typer.Exit(exit_code)


def _check(format_name: str | None, rules: Path | None) -> None:
    """Raise UnreadableFileError for an option that is wrong, before anything is read or written over."""
    if format_name is not None:
        format_named(format_name)
    read_rules(rules)


@contextmanager
def _refused_lines(path: Path | None, read: list[Path | None]) -> Iterator[KeepRefused | None]:
    """Open the file for the refused lines, which must be none of those that are read."""
    if path is None:
        yield None
        return
    if path == STDOUT:
        raise typer.BadParameter(f"{path}: name a file; the standard output has the numbers", param_hint="--refused")
    refuse_overwriting(path, read, "--refused")
    try:
        file = path.open("wb")
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="--refused") from None
    with file:
        yield lambda line: file.write(line + b"\n")


def _read_all(files: list[Path], read: Read) -> ExitCode:
    """Read the files one after the other; return whether each was read to the last line, or none at all."""
    done: list[tuple[Path, ImportStats]] = []
    unreadable = 0
    try:
        for path in files:
            try:
                done.append((path, read(path)))
            except UnreadableFileError as error:
                _complain(f"usage-service: {error}")
                unreadable += 1
    finally:
        _tell(done)
    if not done:
        return ExitCode.REFUSED
    is_whole = not unreadable and not any("refused" in stats.statuses for _, stats in done)
    return ExitCode.DONE if is_whole else ExitCode.WRONG


def _try(path: Path, options: Options, format_name: str | None, keep_refused: KeepRefused | None) -> ImportStats:
    trial = try_file(path, options, format_name, keep_refused)
    for event in trial.first:
        typer.echo(visible(event.decode()))
    return trial.stats


def _tell(done: list[tuple[Path, ImportStats]]) -> None:
    """Print one table of what became of all files, and the first refused lines."""
    if not done:
        return
    rows: list[tuple[str, ...]] = []
    for path, stats in done:
        for index, (what, number) in enumerate(list(_rows(stats)) or [("nothing in it", 0)]):
            rows.append((*(("", "") if index else (visible(str(path)), stats.format)), visible(what), f"{number:,}"))
    names = ("file", "format", "what", "number")
    show_table([Column(*one, one[0] == "number") for one in zip(names, zip(*rows, strict=True), strict=True)])
    paths = sum((Counter(stats.unmatched) for _, stats in done), Counter[str]())
    for unmatched, number in paths.most_common(MOST_PATHS_TOLD):
        tell(f"  no rule matches {unmatched!r}: {number:,}")
    for _, stats in done:
        for why in stats.refusals:
            _complain(f"  refused {why}")


def _rows(stats: ImportStats) -> Iterator[tuple[str, int]]:
    yield from sorted(stats.types.items())
    yield from ((f"left out: {why}", number) for why, number in sorted(stats.left_out.items()))
    yield from ((f"refused: {why}", number) for why, number in sorted(stats.reasons.items()))
    if stats.began_after:
        yield "gone on with, after line", stats.began_after


def _complain(what: str) -> None:
    tell(what, err=True, color="red")
