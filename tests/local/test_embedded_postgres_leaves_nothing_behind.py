"""No process outlives the server's owner or its stop(), whatever the server is doing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.postgres_owner import (
    FAST,
    SECONDS,
    all_gone,
    announced_url,
    busy_client,
    execute,
    owner,
    processes_of,
)
from usage_service.local import embedded_postgres
from usage_service.local.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from usage_service.local.postgres_cluster import wait_until


def frozen(processes: Iterable[int]) -> list[int]:
    """Freeze processes and return them, without those that have ended since: a session of the start may just end."""
    found = []
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            found.append(pid)
    return found


def test_ctrl_c_reaches_the_owner_alone(made: Path) -> None:
    with owner(made) as child:
        url = announced_url(child)
        # An owner that is busy ending other things first still has its database.
        child.send_signal(signal.SIGSTOP)
        os.killpg(child.pid, signal.SIGINT)
        assert execute(url, "SELECT 1") == 1
        child.send_signal(signal.SIGCONT)
        child.wait(SECONDS)
        assert all_gone(made)


def test_killed_owner_of_a_busy_server(made: Path) -> None:
    with owner(made) as child, busy_client(announced_url(child)) as client:
        child.kill()
        child.wait(SECONDS)
        assert all_gone(made)
        assert client.wait(SECONDS) != 0


def test_busy_server_stops_within_its_time(made: Path) -> None:
    postgres = EmbeddedPostgres(made, options=FAST)
    postgres.start()
    with busy_client(postgres.url) as client:
        postgres.stop(timeout=5)
        assert postgres.poll() == 0
        assert client.wait(SECONDS) != 0
    assert all_gone(made)


def test_server_that_does_not_answer_is_killed_with_its_backends(made: Path) -> None:
    postgres = EmbeddedPostgres(made, options=FAST)
    postgres.start()
    assert postgres.pid in frozen(processes_of(made))
    postgres.stop(timeout=0.2)
    assert postgres.poll() == -signal.SIGKILL
    assert all_gone(made)


def test_backends_whose_server_died_are_no_obstacle(made: Path) -> None:
    postgres = EmbeddedPostgres(made, options=FAST)
    postgres.start()
    backends = frozen(pid for pid in processes_of(made) if pid != postgres.pid)
    assert postgres.pid is not None
    os.kill(postgres.pid, signal.SIGKILL)
    assert wait_until(lambda: postgres.poll() is not None, SECONDS)
    assert processes_of(made)
    postgres.start()
    assert not set(backends) & set(processes_of(made))
    postgres.stop()
    assert all_gone(made)


def test_failed_start_leaves_nothing(made: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"did not start.*\n.*unrecognized configuration parameter"):
        EmbeddedPostgres(made, options={**FAST, "no_such_thing": "on"}).start()
    assert all_gone(made)


def test_log_is_bounded(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedPostgres(made, options=FAST) as postgres:
        monkeypatch.setattr(embedded_postgres, "LOG_BYTES", 100)
        log = made / "postgres.log"
        assert log.stat().st_size > 100
        assert postgres.poll() is None
        assert log.stat().st_size == 0
        assert "ready to accept connections" in (made / "postgres.log.1").read_text()
    assert log.read_bytes().startswith(b"20"), "the server goes on at the new end of the file"
