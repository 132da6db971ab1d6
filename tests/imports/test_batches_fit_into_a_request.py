"""A batch is closed before a request would be too large, and no answer about what was sent ends an import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_service import Fault, fake_service
from tests.support.servers import Client, Connection, JsonObject
from usage_service.imports import posting
from usage_service.imports.importing import import_file
from usage_service.imports.posting import PostError

Events = list[dict[str, Any]]


def event(number: int, size: int = 0, kind: str = "x_large") -> JsonObject:
    return {"type": kind, "occurred_at": "2026-11-20T12:00:00Z", "data": {"number": number, "text": "x" * size}}


def written(path: Path, events: list[JsonObject]) -> Path:
    path.write_text("\n".join(map(json.dumps, events)))
    return path


async def test_large_events_are_recorded(client: Client, database: Connection, tmp_path: Path) -> None:
    events = [event(number, 15_000) for number in range(100)]
    stats = await import_file(written(tmp_path / "a", events), str(client.make_url("/")), None)
    assert stats.statuses == {"recorded": 100}
    assert await database.fetchval("SELECT count(*) FROM event_log") == 100


async def test_an_event_that_is_too_large_alone_is_refused(tmp_path: Path) -> None:
    events = [event(0), event(1, 1_048_000), event(2)]
    with fake_service() as service:
        stats = await import_file(written(tmp_path / "a", events), service.url, None)
    assert stats.statuses == {"recorded": 2, "refused": 1}
    assert stats.refusals == ["a:2: data: is 1048022 bytes long; at most 16384"]


async def test_a_request_has_a_thousand_events_at_most(tmp_path: Path) -> None:
    sizes: list[int] = []

    def plan(_: int, events: Events) -> Fault:
        sizes.append(len(events))
        return None

    with fake_service(plan) as service:
        await import_file(written(tmp_path / "a", [event(number) for number in range(2_500)]), service.url, None)
    assert sorted(sizes) == [500, 1_000, 1_000]


async def test_what_a_request_is_too_large_for_is_sent_in_parts(tmp_path: Path) -> None:
    def plan(_: int, events: Events) -> Fault:
        return (413, {}) if len(events) > 3 or any(event["data"]["number"] == 7 for event in events) else None

    with fake_service(plan) as service:
        stats = await import_file(written(tmp_path / "a", [event(number) for number in range(20)]), service.url, None)
        numbers = sorted(sent["data"]["number"] for sent in service.events.values())
    assert numbers == [number for number in range(20) if number != 7]
    assert stats.statuses == {"recorded": 19, "refused": 1}
    assert stats.refusals[0].startswith("a:8: http")


async def test_faults_that_pass_are_outlived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults: dict[int, Fault] = {1: "unread", 2: "lost", 3: "half", 4: (503, {"Retry-After": "0"}), 5: (429, {})}
    monkeypatch.setattr(posting, "FIRST_WAIT", 0.001)
    with fake_service(lambda number, _: faults.get(number)) as service:
        stats = await import_file(written(tmp_path / "a", [event(number) for number in range(10)]), service.url, None)
        assert len(service.events) == 10
    assert stats.statuses == {"duplicate": 10}  # as the first two answers that recorded them were lost


@pytest.mark.parametrize(("fault", "why"), [("html", "not a usage service"), ((401, {}), "401"), ((404, {}), "404")])
async def test_what_is_no_answer_ends_the_import(tmp_path: Path, fault: Fault, why: str) -> None:
    with fake_service(lambda *_: fault) as service, pytest.raises(PostError, match=why):
        await import_file(written(tmp_path / "a", [event(0), event(1)]), service.url, None)
