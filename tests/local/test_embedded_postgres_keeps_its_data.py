"""What was committed is there at the next start, however the last run ended."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.postgres_owner import FAST, SECONDS, all_gone, announced_url, execute, owner, processes_of
from usage_service.local.embedded_postgres import EmbeddedPostgres
from usage_service.local.postgres_cluster import wait_until

KEEP = ("DROP TABLE IF EXISTS kept", "CREATE TABLE kept AS SELECT 42 AS answer")
KEPT = "SELECT answer FROM kept"


def test_after_an_orderly_stop(made: Path) -> None:
    postgres = EmbeddedPostgres(made, options=FAST)
    postgres.start()
    execute(postgres.url, *KEEP)
    password = (made / "password").read_text()
    postgres.stop()
    postgres.stop()
    assert postgres.poll() == 0
    assert postgres.pid is None
    postgres.start()
    with postgres:
        assert execute(postgres.url, KEPT) == 42
        assert (made / "password").read_text() == password
    assert all_gone(made)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_after_the_owner_was_ended(made: Path, end: signal.Signals) -> None:
    with owner(made) as child:
        execute(announced_url(child), *KEEP)
        assert len(processes_of(made)) > 2
        child.send_signal(end)
        child.wait(SECONDS)
        # At once: a server that is still shutting down is waited for.
        with EmbeddedPostgres(made, options=FAST) as postgres:
            assert execute(postgres.url, KEPT) == 42
    assert "was interrupted" not in (made / "postgres.log").read_text()
    assert all_gone(made)


def test_after_everything_was_killed(made: Path) -> None:
    with owner(made) as child:
        execute(announced_url(child), *KEEP)
        everything = processes_of(made)
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first: none is to shut down because another is gone
            for pid in everything:
                with suppress(ProcessLookupError):  # a backend may end by itself meanwhile
                    os.kill(pid, number)
        child.kill()
        child.wait(SECONDS)
    assert all_gone(made)
    with EmbeddedPostgres(made, options=FAST) as postgres:
        assert execute(postgres.url, KEPT) == 42
    assert "automatic recovery in progress" in (made / "postgres.log").read_text()


@pytest.mark.parametrize("moment", ["initdb-*", "initdb-*/cluster/base/1/*", "cluster", "cluster/postmaster.pid"])
def test_first_start_killed_at_any_moment_is_done_again(tmp_path: Path, moment: str) -> None:
    with owner(tmp_path) as child:
        assert wait_until(lambda: any(tmp_path.glob(moment)), SECONDS)
        child.kill()
        child.wait(SECONDS)
        with EmbeddedPostgres(tmp_path, options=FAST) as postgres:
            assert execute(postgres.url, "SELECT current_database()") == "usage"
    assert not list(tmp_path.glob("initdb-*"))
    assert all_gone(tmp_path)


def test_half_made_cluster_is_not_mistaken_for_one(tmp_path: Path) -> None:
    half = tmp_path / "initdb-half" / "cluster"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(tmp_path, options=FAST) as postgres:
        assert execute(postgres.url, "SELECT 1") == 1
    assert not half.exists()


def test_durable_unless_told_otherwise(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path) as postgres:
        settings = "SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings WHERE name IN "
        wanted = "('data_checksums', 'fsync', 'full_page_writes', 'synchronous_commit', 'TimeZone')"
        expected = "TimeZone=UTC data_checksums=on fsync=on full_page_writes=on synchronous_commit=on"
        assert sorted(str(execute(postgres.url, settings + wanted)).split()) == sorted(expected.split())
