"""UsageClient: a script that just ends has its events sent, in a bounded time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fake_service import FakeService, fake_service, soon
from usage_service.client import UsageClient

APP = """
import sys
from pathlib import Path
from usage_service.client import UsageClient

spool = Path(sys.argv[2]) if sys.argv[2] else None
client = UsageClient(sys.argv[1], spool_dir=spool, linger_seconds=600, exit_seconds=1)
for number in range(100):
    client.record("x_note", data={"number": number})
"""


def ran(service: FakeService, spool: Path | None) -> str:
    """Run the script to its end, and return its log."""
    command = [sys.executable, "-c", APP, service.url, str(spool or "")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
def test_a_script_that_ends_has_its_events_sent(spooled: bool, tmp_path: Path) -> None:
    with fake_service() as service:
        ran(service, tmp_path if spooled else None)
        assert len(service.events) == 100
    assert not list(tmp_path.iterdir())


def test_with_the_service_away_it_ends_in_time_and_the_next_one_sends(tmp_path: Path) -> None:
    with fake_service() as service:
        service.stop()
        ran(service, tmp_path)
        service.start()
        with UsageClient(service.url, spool_dir=tmp_path) as client:
            client.record("x_next")
            soon(lambda: len(service.events) == 101, "what the script left")
        assert service.repeats == 0


def test_what_is_lost_with_the_process_is_said() -> None:
    with fake_service() as service:
        service.stop()
        assert "events_lost_at_exit events='100'" in ran(service, None)


async def test_an_async_app_closes_it_on_leaving() -> None:
    with fake_service() as service:
        async with UsageClient(service.url, linger_seconds=30) as client:
            client.record("x_note")
            assert await client.aflush(10)
            client.record("x_note")
        assert client.stats().sent == 2
