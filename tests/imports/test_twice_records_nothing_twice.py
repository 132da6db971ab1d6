"""What was imported is known again by its content, under any name, form, order, zone or clock of the file."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from tests.support.servers import Client, Connection, JsonObject
from usage_service.imports.importing import import_file
from usage_service.imports.lines import NO_OPTIONS, Options

NOON = "2026-11-20T12:00:00Z"
CATALOGUE = "product,probe,type,ping\nfog,a,counter,metrics\nfog,b,timing_distribution,metrics\n"


def viewed(page: str, at: str = NOON, **fields: object) -> JsonObject:
    return {"type": "page_viewed", "occurred_at": at, "data": {"page": page}, **fields}


def searched(at: str) -> JsonObject:
    return {"type": "probe_searched", "occurred_at": at, "data": {"query": "gc", "results": 3}}


# Three equal lines, two that differ in the visitor alone, one of an instant between seconds.
EVENTS = [
    viewed("/a"),
    viewed("/b", visitor="one"),
    viewed("/a"),
    searched("2026-11-20T12:00:00.25Z"),
    viewed("/a"),
    viewed("/b", visitor="another"),
]


async def imported(client: Client, path: Path, options: Options = NO_OPTIONS) -> dict[str, int]:
    return (await import_file(path, str(client.make_url("/")), None, options)).statuses


def written(path: Path, events: list[JsonObject]) -> Path:
    text = "\n".join(map(json.dumps, events)).encode()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


async def events_in(database: Connection) -> int:
    return int(await database.fetchval("SELECT count(*) FROM event_log"))


async def test_a_file_is_one_whatever_it_looks_like(client: Client, database: Connection, tmp_path: Path) -> None:
    assert await imported(client, written(tmp_path / "a.ndjson", EVENTS)) == {"recorded": 6}
    in_another_zone = [event | {"occurred_at": event["occurred_at"].replace("T12", "T17").replace("Z", "+05:00")}
                       for event in EVENTS]  # fmt: skip
    keys_moved = [dict(reversed(event.items())) for event in EVENTS]
    said = [event | {"data": event["data"] | {"bot": False}} for event in EVENTS]  # which is what it is anyway
    forms = {
        "a.ndjson": EVENTS,
        "other/directory.log": EVENTS,
        "a.gz": EVENTS,
        "halves-1": EVENTS[:3],
        "halves-2": EVENTS[3:],
        "backwards": EVENTS[::-1],
        "zone": in_another_zone,
        "keys": keys_moved,
        "said": said,
    }
    for name, events in forms.items():
        assert await imported(client, written(tmp_path / name, events)) == {"duplicate": len(events)}, name
    (tmp_path / "a.json").write_text(json.dumps(EVENTS, indent=1))
    assert await imported(client, tmp_path / "a.json") == {"duplicate": 6}
    assert await events_in(database) == 6


async def test_a_line_is_there_as_often_as_the_fullest_file_has_it(
    client: Client, database: Connection, tmp_path: Path
) -> None:
    line, other = viewed("/a"), viewed("/b")
    for times, recorded in ((2, 2), (1, 0), (3, 1), (3, 0)):
        events = [line] * times + [other]
        found = Counter(await imported(client, written(tmp_path / "a", events)))
        assert found["recorded"] - (times == 2) == recorded  # the other line is new once
    assert await events_in(database) == 4


async def test_equal_lines_of_two_hosts_are_two(client: Client, database: Connection, tmp_path: Path) -> None:
    path = written(tmp_path / "a", EVENTS)
    for host in ("web-1", "web-2"):
        assert await imported(client, path, Options(host=host)) == {"recorded": 6}
        assert await imported(client, path, Options(host=host)) == {"duplicate": 6}
    assert await events_in(database) == 12


async def test_an_id_of_the_file_is_kept(client: Client, database: Connection, tmp_path: Path) -> None:
    own = "8c6c29a1-6d6e-4a53-9a9e-0a6a1f4b8a11"
    path = written(tmp_path / "a", [viewed("/a", event_id=own), viewed("/b", event_id=own)])
    stats = await import_file(path, str(client.make_url("/")), None)
    assert stats.statuses == {"recorded": 1, "refused": 1}
    assert stats.refusals == ["a:2: event_id: is used by another event: send this one under an id of its own"]
    assert str(await database.fetchval("SELECT event_id FROM event_log")) == own


@pytest.mark.parametrize("modified", [0, 1_700_000_000])
async def test_the_clock_of_a_file_says_nothing(
    client: Client, database: Connection, tmp_path: Path, modified: int
) -> None:
    path = tmp_path / "catalogue.csv"
    path.write_text(CATALOGUE)
    assert await imported(client, path) == {"recorded": 2}
    os.utime(path, (modified, modified))
    assert await imported(client, path) == {"duplicate": 2}
    path.write_text(CATALOGUE + "fog,c,counter,metrics\n")
    assert await imported(client, path) == {"duplicate": 2, "recorded": 1}
    assert await events_in(database) == 3
    assert await database.fetchval("SELECT min(occurred_at) > now() - interval '1 hour' FROM event_log")
