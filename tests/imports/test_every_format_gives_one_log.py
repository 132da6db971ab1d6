"""Each format has a corpus. Imported twice, elsewhere, packed, renamed, cut short and in halves, it gives one log."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from tests.conftest import SECRET
from tests.support.servers import Client, Connection
from usage_service.imports.formats import FORMATS, format_of
from usage_service.imports.importing import import_file, try_file
from usage_service.imports.lines import Options
from usage_service.imports.reading import prepared_lines
from usage_service.imports.refusals import UnreadableFileError
from usage_service.imports.source import open_source
from usage_service.imports.state import open_state
from usage_service.ingest.visitors import VisitorKeys

CORPUS = Path(__file__).parents[1] / "data" / "imports"
FOLDERS = {one.name: CORPUS / one.name for one in FORMATS}
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
AS_OF = datetime(2026, 8, 27, tzinfo=UTC)
ONE_A_LINE = {".csv", ".ndjson", ".log"}
# Of formats that name no product, and of which no file names another one.
PRODUCTS = {"metrics-yaml": "fog"}


def files(name: str) -> list[Path]:
    return sorted(path for path in FOLDERS[name].iterdir() if path.suffix != ".md")


def options(name: str) -> Options:
    return Options(product=PRODUCTS.get(name), as_of=AS_OF)


def test_every_format_has_a_corpus_whose_hostile_lines_are_refused() -> None:
    for name, folder in FOLDERS.items():
        assert "https://" in (read_me := (folder / "README.md").read_text("utf-8")) or "docs/" in read_me, name
        refused = 0
        for path in files(name):
            with suppress(UnreadableFileError):
                with open_source(path) as source:
                    assert format_of(source.head, source.name).name == name, path
                refused += try_file(path, options(name)).stats.statuses.get("refused", 0)
        assert refused >= 3, name


async def test_however_it_is_imported_it_is_one_log(
    client: Client, database: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", os.devnull)  # states that nobody goes on with need no disk
    url = str(client.make_url("/"))
    few = asyncio.Semaphore(4)

    async def import_forms(name: str, path: Path) -> None:
        async with few:
            for form in forms_of(path, tmp_path / name):
                with suppress(UnreadableFileError):
                    await import_file(form, url, None, options(name), name)

    every = [(name, path) for name in FOLDERS for path in files(name)]
    await asyncio.gather(*(import_forms(name, path) for name, path in every))
    expected = {stored(event_id) for name, path in every for event_id in ids(name, path)}
    rows = await database.fetch("SELECT event_id FROM event_log")
    assert {str(row["event_id"]) for row in rows} == expected


def stored(event_id: str) -> str:
    """Return the id under which the server of the tests stores an event."""
    return str(VisitorKeys(SECRET, rotation_days=90).stored_id(UUID(event_id)))


def ids(name: str, path: Path) -> Iterator[str]:
    """Yield the ids of the events that a file gives when it is read once, if they may be recorded."""
    chosen = next(one for one in FORMATS if one.name == name)
    with suppress(UnreadableFileError), open_source(path) as source, open_state(None) as state:
        for line in prepared_lines(source, chosen, options(name), state):
            for event in line.events:
                found = msgspec.json.decode(event.body)
                if datetime.fromisoformat(found["occurred_at"]) >= EARLIEST:
                    yield found["event_id"]


def forms_of(path: Path, folder: Path) -> Iterator[Path]:
    """Yield a file cut short and in halves where it has a record a line, packed with another name, and as it is."""
    content = path.read_bytes()
    packed = gzip.compress(content)
    if path.suffix in ONE_A_LINE:
        header = content[: content.index(b"\n") + 1] if path.suffix == ".csv" else b""
        lines = content[len(header) :].splitlines(keepends=True)
        half = len(lines) // 2
        yield written(folder / f"{path.name}.0", packed[: len(packed) * 2 // 3])
        yield written(folder / f"{path.name}.1", header + b"".join(lines[half:]))
        yield written(folder / f"{path.name}.2", header + b"".join(lines[:half]))
    yield written(folder / f"{path.name}.gz", packed)
    yield path


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path
