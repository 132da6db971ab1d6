"""An export put into an empty service is the same log, positions included; and it is restored once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import pytest

from tests.support.servers import Client, Connection, JsonObject, event, post
from usage_service.commands.exporting import export_log
from usage_service.imports import batches
from usage_service.imports.importing import import_file
from usage_service.imports.posting import PostError
from usage_service.log.exports import Format

NOW = datetime(2026, 11, 24, tzinfo=UTC)
EVERYTHING = "SELECT event_log::text FROM event_log ORDER BY position"


@pytest.fixture
async def posted(client: Client, database: Connection) -> list[str]:
    """Make a log with gaps and awkward text, and return its rows as text."""
    awkward = {"text": 'quotes " \\ \n \u2028 é'}
    pairs = [(event("x_mine", data={"n": number, "deep": awkward}), event()) for number in range(30)]
    await post(client, *chain.from_iterable(pairs))
    await database.execute("SELECT nextval('event_position'), nextval('event_position')")
    await post(client, event("probe_viewed", visitor=None, channel="nightly"))
    return await rows(database)


async def rows(database: Connection) -> list[str]:
    return [row[0] for row in await database.fetch(EVERYTHING)]


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().rstrip(b"\n").split(b"\n")


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def address(client: Client) -> str:
    return str(client.make_url("/"))


async def export(client: Client, path: Path, form: Format, after: int = 0) -> int:
    return await asyncio.to_thread(export_log, path, form, after, address(client), None)


async def empty(database: Connection) -> None:
    await database.execute("TRUNCATE event_log, visitor_keys; ALTER SEQUENCE event_position RESTART")


@pytest.mark.parametrize(
    ("name", "form"), [("log.ndjson", "ndjson"), ("log.ndjson.gz", "ndjson"), ("log.parquet", "parquet")]
)
async def test_the_same_log_comes_back(
    client: Client,
    database: Connection,
    posted: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    form: Format,
) -> None:
    monkeypatch.setattr(batches, "MOST_BYTES", 3_000)  # so that it takes several requests
    assert await export(client, tmp_path / name, form) == 63
    await empty(database)
    stats = await import_file(tmp_path / name, address(client), None)
    assert stats.statuses == Counter(restored=61)
    assert await rows(database) == posted
    again = await import_file(tmp_path / name, address(client), None)
    assert again.statuses == Counter(duplicate=61)
    [item] = await post(client, event())
    assert item["position"] == 64
    assert names_in(tmp_path) == [name]


async def test_an_interrupted_restore_goes_on(
    client: Client, database: Connection, posted: list[str], tmp_path: Path
) -> None:
    whole, half = tmp_path / "whole.ndjson", tmp_path / "half.ndjson"
    await export(client, whole, "ndjson")
    half.write_bytes(b"\n".join(whole.read_bytes().split(b"\n")[:20]))
    await empty(database)
    await import_file(half, address(client), None)
    stats = await import_file(whole, address(client), None)
    assert stats.statuses == Counter(restored=41, duplicate=20)
    assert await rows(database) == posted


async def test_a_repeat_of_a_restored_event_is_recognised(client: Client, database: Connection, tmp_path: Path) -> None:
    sent = event()
    [original] = await post(client, sent)
    await export(client, tmp_path / "log.ndjson", "ndjson")
    await empty(database)
    await import_file(tmp_path / "log.ndjson", address(client), None)
    [again] = await post(client, sent)
    assert (again["status"], again["position"]) == ("duplicate", original["position"])


async def test_nothing_is_restored_over_other_events(
    client: Client, database: Connection, posted: list[str], tmp_path: Path
) -> None:
    await export(client, tmp_path / "log.ndjson", "ndjson")
    await empty(database)
    await post(client, event())
    with pytest.raises(PostError, match="other events"):
        await import_file(tmp_path / "log.ndjson", address(client), None)
    assert await database.fetchval("SELECT count(*) FROM event_log") == 1


async def test_part_of_the_log_is_exported(client: Client, posted: list[str], tmp_path: Path) -> None:
    await export(client, tmp_path / "tail.ndjson", "ndjson", after=60)
    assert [json.loads(line)["position"] for line in lines_of(tmp_path / "tail.ndjson")] == [63]


async def test_an_empty_log_is_an_empty_file(client: Client, tmp_path: Path) -> None:
    forms: dict[str, Format] = {"log.ndjson": "ndjson", "log.parquet": "parquet"}
    for name, form in forms.items():
        assert await export(client, tmp_path / name, form) == 0
        assert (await import_file(tmp_path / name, address(client), None)).statuses == {}


async def test_a_service_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(PostError, match="does not answer"):
        await asyncio.to_thread(export_log, tmp_path / "log.ndjson", "ndjson", 0, "http://127.0.0.1:9", None)
    assert names_in(tmp_path) == []


async def test_a_bad_line_is_refused(client: Client) -> None:
    await post(client, event())
    good = json.loads(await (await client.get("/v1/events")).text())
    bad: list[JsonObject] = [{"position": 0}, {"position": "one"}, {"digest": None}, {"event_id": "17"}]
    for change, status in [*((one, 422) for one in bad), ({}, 200)]:
        response = await client.post(
            "/v1/events/restore", data=json.dumps(good | change), headers={"Content-Type": "application/x-ndjson"}
        )
        assert response.status == status, await response.text()
