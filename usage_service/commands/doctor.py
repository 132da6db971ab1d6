"""`usage-service doctor`: whether each part of an installation is as it has to be."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import typer

from usage_service.doctor.database import database_findings
from usage_service.doctor.findings import Finding, State
from usage_service.doctor.service import service_findings
from usage_service.doctor.warehouse import warehouse_finding
from usage_service.shared.exit_codes import ExitCode
from usage_service.shared.options import DEFAULT_DATA_DIR, DEFAULT_URL, DatabaseUrl, DataDir, Token, Url
from usage_service.shared.remote import token_or_kept
from usage_service.shared.settings import TOKEN_FILE
from usage_service.shared.table_layout import Column, lines
from usage_service.shared.tables import RowsOption, room_of, show, tell, visible

COLUMNS = ("part", "state", "seen", "mend")
MARKS: dict[State, str] = {"ok": "ok   ", "note": "note ", "wrong": "WRONG", "unchecked": "--   "}
COLORS = {MARKS["ok"]: "green", MARKS["note"]: "yellow", MARKS["wrong"]: "red"}


def doctor_command(
    form: RowsOption = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Check that everything is reachable, writable, at the right version and current; exit code 1 where it is not.

    The service, its clock and what the token opens; the database, its clock and schema; the projections, builders and
    mirrors; the warehouse. Nothing is changed. Each line that is not well says how to mend it.
    """
    database = asyncio.run(_listed(database_url, data_dir))
    service = service_findings(url, token_or_kept(token, data_dir / TOKEN_FILE.name))
    findings = [*service, *database, warehouse_finding(os.environ, data_dir)]
    if form:
        show([msgspec.to_builtins(finding) for finding in findings], COLUMNS, form)
    else:
        _show(findings)
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(ExitCode.WRONG)


async def _listed(url: str | None, data_dir: Path) -> list[Finding]:
    return [finding async for finding in database_findings(url, data_dir)]


def _show(findings: Sequence[Finding]) -> None:
    """Print what was found of each part, and the mend below what is not well; in colours on a terminal."""
    rows = [line for finding in findings for line in _lines(finding)]
    columns = [Column(name, [visible(row[index]) for row in rows]) for index, name in enumerate(("part", "is", "seen"))]
    for line in lines(columns, room_of(sys.stdout)):
        typer.echo(_coloured(line) if sys.stdout.isatty() and "NO_COLOR" not in os.environ else line)
    wrong = sum(finding.state == "wrong" for finding in findings)
    tell(f"{wrong} of {len(findings)} are wrong" if wrong else "nothing is wrong")


def _lines(finding: Finding) -> Iterator[tuple[str, str, str]]:
    yield finding.part, MARKS[finding.state], finding.seen
    if finding.mend:
        yield "", "", f"-> {finding.mend}"


def _coloured(line: str) -> str:
    for mark, color in COLORS.items():
        if f"  {mark}  " in line:
            return line.replace(f"  {mark}  ", f"  {typer.style(mark, fg=color)}  ", 1)
    return line
