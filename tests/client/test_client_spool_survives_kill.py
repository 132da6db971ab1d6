"""UsageClient: an event for which record() returned is delivered, though the app is killed the moment after."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.fake_service import FakeService, fake_service, soon
from tests.support.small_disk import small_disk
from usage_service.client import UsageClient
from usage_service.client.segment import HEADER_BYTES, Segment

APP = """
import itertools, os, sys
from pathlib import Path
from usage_service.client import UsageClient

client = UsageClient(sys.argv[1], spool_dir=Path(sys.argv[2]), linger_seconds=0.001, retry_seconds=0.05)
for number in range(int(sys.argv[3])):
    os.write(1, client.record("x_note", data={"number": number}).encode() + b"\\n")
if sys.argv[4:]:
    os.write(1, b"flushed\\n" if client.flush(10) else b"not flushed\\n")
sys.stdin.read()
"""
FORKING = """
import os, sys
from pathlib import Path
from usage_service.client import UsageClient

client = UsageClient(sys.argv[1], spool_dir=Path(sys.argv[2]))
event_id = client.record("x_note")
ready, tell = os.pipe()
forked = os.fork()
if not forked:
    os.write(tell, b"!")
    sys.stdin.read()
    os._exit(0)
os.read(ready, 1)
os.write(1, event_id.encode() + b"\\n")
sys.stdin.read()
"""
ENDLESS = 10**9


def started(service: FakeService, spool: Path, events: int, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", APP, service.url, str(spool), str(events), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def killed_after(app: subprocess.Popen[str], lines: int) -> set[str]:
    """Kill the app once it has printed so many lines, and return them."""
    with app:
        assert app.stdout is not None
        said = [app.stdout.readline() for _ in range(lines)]
        os.kill(app.pid, signal.SIGKILL)
        said += app.stdout.readlines()
    return {line.strip() for line in said if line.endswith("\n")}


def adopted(service: FakeService, spool: Path) -> UsageClient:
    """Run the next process, which adopts the events that are left with its first event."""
    client = UsageClient(service.url, spool_dir=spool, retry_seconds=0.05)
    client.record("x_next")
    return client


def test_killed_at_any_moment_with_the_service_coming_and_going(tmp_path: Path) -> None:
    dice = random.Random(3)
    recorded: set[str] = set()
    with fake_service() as service:
        for turn in range(12):
            (service.start, service.stop)[turn % 2 == 0]() if turn else service.stop()
            recorded |= killed_after(started(service, tmp_path, ENDLESS), dice.randint(1, 300))
        assert recorded - service.events.keys()
        with adopted(service, tmp_path) as client:
            soon(lambda: recorded <= service.events.keys(), "every event that was recorded")
            soon(lambda: client.stats().spooled == 0, "nothing left")
        assert not list(tmp_path.iterdir())


def test_what_was_acknowledged_is_not_sent_again(tmp_path: Path) -> None:
    with fake_service() as service:
        said = killed_after(started(service, tmp_path, 500, "flush"), 501)
        assert "flushed" in said
        with adopted(service, tmp_path):
            soon(lambda: not _others(tmp_path), "the segment of the dead adopted and deleted")
        assert service.repeats == 0
        assert len(service.events) == 501


def test_what_was_acknowledged_of_a_file_is_not_sent_again(tmp_path: Path) -> None:
    with fake_service(lambda number, events: (503, {}) if number > 2 else None) as service:
        app = started(service, tmp_path, 2_000)
        soon(lambda: len(service.times) > 3, "some acknowledged, some not")
        ids = killed_after(app, 2_000)
        assert 0 < len(service.events) < 2_000
        service.plan = lambda number, events: None
        with adopted(service, tmp_path):
            soon(lambda: ids <= service.events.keys(), "the rest")
        assert service.repeats == 0


def test_a_forked_child_that_lives_on_keeps_nothing_from_the_next_process(tmp_path: Path) -> None:
    with fake_service() as service:
        service.stop()
        app = subprocess.Popen(
            [sys.executable, "-c", FORKING, service.url, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with app:
            assert app.stdout is not None
            event_id = app.stdout.readline().strip()
            app.kill()
            app.wait(10)
            service.start()
            with adopted(service, tmp_path):
                soon(lambda: event_id in service.events, "what the parent left")


def test_the_living_are_not_robbed(tmp_path: Path) -> None:
    with fake_service(lambda number, events: (503, {}) if events[0]["type"] == "x_note" else None) as service:
        app = started(service, tmp_path, 10)
        assert app.stdout is not None
        ids = {app.stdout.readline().strip() for _ in range(10)}
        with adopted(service, tmp_path) as client:
            assert client.flush(5)
            service.plan = lambda number, events: None
            soon(lambda: ids <= service.events.keys(), "sent by their owner")
            assert client.stats().sent == 1
        killed_after(app, 0)


@pytest.mark.parametrize(
    "rubbish", [b"", b"\n", b"{}\n", b"\x00\xff" * 1_000, b'{"event_id": "torn', b"x" * 900_000 + b"\n"]
)
def test_rubbish_on_disk_costs_only_itself(rubbish: bytes, tmp_path: Path) -> None:
    ids = [f"00000000-0000-4000-8000-{number:012}" for number in range(3)]
    lines = [
        json.dumps({"event_id": one, "type": "x_note", "occurred_at": "2026-11-20T12:00:00Z"}).encode() for one in ids
    ]
    header = b"%020d\n" % HEADER_BYTES
    (tmp_path / "1.spool").write_bytes(header + lines[0] + b"\n" + rubbish + b"\n" + lines[1] + b"\n" + rubbish)
    (tmp_path / "2.spool").write_bytes(b"what a header, then \n" + lines[2] + b"\n" + lines[2][:40])
    (tmp_path / "3.spool").touch()
    (tmp_path / "unrelated").touch()
    with fake_service() as service, adopted(service, tmp_path) as client:
        soon(lambda: not _others(tmp_path), "all adopted and deleted")
        assert service.events.keys() >= set(ids)
        assert client.stats().unreadable >= 2
    assert [path.name for path in tmp_path.iterdir()] == ["unrelated"]


def test_what_is_recorded_after_a_disk_was_full_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up while a file is emptied of what was sent."""
    line = json.dumps({"event_id": "1", "type": "x_note", "occurred_at": "2026-11-20T12:00:00Z"}).encode()
    with small_disk(tmp_path / "mounted", 1) as disk:
        segment = Segment.create(disk.path)
        segment.append(line + b"\n")
        with monkeypatch.context() as patch, suppress(OSError):
            patch.setattr(os, "ftruncate", _then(os.ftruncate, disk.fill))
            segment.settle(segment.size)
        disk.free()
        segment.append(line + b"\n")
        segment.close()
        adopted = Segment.adopt(segment.path)
        assert adopted is not None
        assert adopted.read(10)[::2] == ([line], 0)
        adopted.close()


def _then(first: Callable[..., None], then: Callable[[], None]) -> Callable[..., None]:
    def both(*arguments: object) -> None:
        first(*arguments)
        then()

    return both


def _others(spool: Path) -> list[str]:
    """Return the segments that are not this process's own."""
    return [path.name for path in spool.glob("*.spool") if f"-{os.getpid()}-" not in path.name]
