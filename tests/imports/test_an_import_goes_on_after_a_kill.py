"""A killed import goes on where it was: nothing is missing, nothing is there twice, and its numbers are whole."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_service import FakeService, Fault, fake_service
from tests.support.servers import JsonObject
from usage_service.imports import state
from usage_service.imports.importing import import_file
from usage_service.imports.lines import Options
from usage_service.imports.posting import PostError
from usage_service.imports.state import StateError, open_state
from usage_service.imports.stats import ImportStats

Events = list[dict[str, Any]]
BATCH = 1_000


def page(number: int) -> JsonObject:
    return {"type": "page_viewed", "occurred_at": "2026-11-20T12:00:00Z", "data": {"page": f"/{number}"}}


def write(path: Path, requests: int = 10) -> Counter[str]:
    """Write lines of which many are equal, far apart, and some cannot be read; return how often each page is there."""
    chance = random.Random(1)
    pages = [chance.randrange(requests * BATCH // 3) for _ in range(requests * BATCH)]
    lines = [json.dumps(page(number)) for number in pages]
    for place in range(0, len(lines), 997):
        lines[place] = "not read"
    path.write_text("\n".join(lines))
    return Counter(json.loads(line)["data"]["page"] for line in lines if line != "not read")


def recorded(service: FakeService) -> Counter[str]:
    return Counter(event["data"]["page"] for event in service.events.values())


def start(path: Path, url: str, refused: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "usage_service", "import", str(path), "--url", url, "--refused", str(refused)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_killed_import_goes_on(tmp_path: Path) -> None:
    path, refused = tmp_path / "pages.ndjson", tmp_path / "refused"
    expected = write(path)
    running: list[subprocess.Popen[bytes]] = []

    def plan(number: int, _: Events) -> Fault:
        if number == 7:
            running[0].send_signal(signal.SIGKILL)
            return "lost"  # recorded, and nobody knows
        return None

    with fake_service(plan) as service:
        running.append(start(path, service.url, refused))
        running[0].communicate(timeout=60)
        assert running[0].returncode == -signal.SIGKILL
        assert len(service.events) < 9_989
        before = len(service.times)
        out, _ = start(path, service.url, refused).communicate(timeout=60)
        assert recorded(service) == expected
        assert len(service.times) - before < 10  # not all over again
    assert "gone on with, after line" in out.decode()
    lines = [json.loads(line) for line in refused.read_text().splitlines()]
    assert [line["number"] for line in lines] == list(range(1, 10_001, 997))
    assert {line["text"] for line in lines} == {"not read"}


async def run(path: Path, service: FakeService) -> ImportStats:
    return await import_file(path, service.url, None, Options(host="a"))


async def interrupt(path: Path, service: FakeService, at: int) -> None:
    service.plan = lambda number, _: (401, {}) if number >= at else None
    with pytest.raises(PostError):
        await run(path, service)
    service.plan = lambda *_: None


async def test_what_another_log_has_not_is_sent_again(tmp_path: Path) -> None:
    expected = write(tmp_path / "a", 4)
    with fake_service() as service:
        await interrupt(tmp_path / "a", service, 3)
        service.events.clear()  # as of a new database at the same address
        stats = await run(tmp_path / "a", service)
        assert recorded(service) == expected
    assert stats.began_after == 0


async def test_a_changed_file_begins_anew(tmp_path: Path) -> None:
    write(tmp_path / "a", 4)
    with fake_service() as service:
        await interrupt(tmp_path / "a", service, 3)
        with (tmp_path / "a").open("a") as file:
            file.write("\n" + json.dumps(page(-1)))
        stats = await run(tmp_path / "a", service)
        assert sum(recorded(service).values()) == 4 * BATCH - 5 + 1
    assert (stats.began_after, stats.lines) == (0, 4 * BATCH + 1)


@pytest.mark.parametrize("form", ["lines", "array", "packed"])
async def test_numbers_are_those_of_the_whole_file(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a"
    expected = write(path, 4)
    if form == "array":
        path.write_text("[" + path.read_text().replace("\n", ",\n") + "]")
    if form == "packed":
        path.write_bytes(gzip.compress(path.read_bytes()))
    with fake_service() as service:
        await interrupt(tmp_path / "a", service, 3)
        stats = await run(tmp_path / "a", service)
        assert recorded(service) == expected
    assert stats.began_after > 0
    assert (stats.lines, stats.statuses["refused"]) == (4 * BATCH, 5)
    assert sum(stats.statuses.values()) == 4 * BATCH


def test_two_imports_of_one_file_do_not_mix() -> None:
    with open_state("a"), pytest.raises(StateError, match="another import of the same file is running"):
        open_state("a").__enter__()


def test_a_state_that_cannot_be_kept_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def fill() -> None:
        with open_state("a") as opened:
            opened._database.execute("PRAGMA max_page_count = 8")
            opened.keep({b"%020d" % number: 1 for number in range(10_000)}, [], None)

    with pytest.raises(StateError, match="is full"):
        fill()
    [kept] = (tmp_path / "glam-usage" / "imports").glob("*.import")
    kept.write_bytes(b"damaged" * 1_000)
    with pytest.raises(StateError, match="is damaged"):
        open_state("a").__enter__()


def test_a_folder_that_cannot_be_written_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "glam-usage").write_text("a file where the folder would be")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with open_state("a") as opened:
        assert opened.count(b"key") == 0


def test_what_nobody_went_on_with_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(KeyError), open_state("old"):
        raise KeyError
    [kept] = (tmp_path / "glam-usage" / "imports").glob("*.import")
    os.utime(kept, (1, 1))
    with open_state("new"):
        assert not kept.exists()
    assert state.KEPT_SECONDS > 86_400
