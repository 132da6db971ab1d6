"""Only this machine, and only who can read the password file, reaches the server; servers do not disturb each other."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

from tests.support.postgres_owner import FAST, all_gone, execute, processes_of
from usage_service.local import embedded_postgres
from usage_service.local.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from usage_service.local.ports import free_port


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    # Options cannot open it to the network.
    options = {**FAST, "listen_addresses": "*"}
    with EmbeddedPostgres(tmp_path_factory.mktemp("private") / "data", options=options) as server:
        yield server


def data_dir(postgres: EmbeddedPostgres) -> Path:
    assert postgres.pid is not None
    return Path(psutil.Process(postgres.pid).cwd()).parent


def test_files_are_the_owners_alone(postgres: EmbeddedPostgres) -> None:
    modes = {path.name: path.stat().st_mode & 0o077 for path in data_dir(postgres).iterdir()}
    assert modes == dict.fromkeys(["cluster", "lock", "password", "postgres.log"], 0)


def test_listens_on_loopback_only(postgres: EmbeddedPostgres) -> None:
    listening = set[object]()
    for pid in processes_of(data_dir(postgres)):
        with suppress(psutil.NoSuchProcess):  # a worker that has ended meanwhile
            listening |= {
                connection.laddr
                for connection in psutil.Process(pid).net_connections("all")
                if connection.status == psutil.CONN_LISTEN or connection.family == socket.AF_UNIX
            }
    assert listening == {("127.0.0.1", urlsplit(postgres.url).port)}


def test_wants_the_password(postgres: EmbeddedPostgres) -> None:
    password = urlsplit(postgres.url).password
    assert password is not None
    assert len(password) >= 32
    with pytest.raises(asyncpg.InvalidPasswordError):
        execute(postgres.url.replace(password, "guess"), "SELECT 1")
    secret = execute(postgres.url, "SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'")
    assert str(secret).startswith("SCRAM-SHA-256$")


def test_password_is_in_no_command_line_or_log(postgres: EmbeddedPostgres) -> None:
    password = str(urlsplit(postgres.url).password)
    assert password not in (data_dir(postgres) / "postgres.log").read_text()
    for process in processes_of(data_dir(postgres)):
        with suppress(psutil.NoSuchProcess):  # a worker that has ended meanwhile
            assert password not in " ".join(psutil.Process(process).cmdline())


def test_unicode_is_sorted_and_folded_the_same_on_every_machine(postgres: EmbeddedPostgres) -> None:
    assert execute(postgres.url, "SHOW server_encoding") == "UTF8"
    assert execute(postgres.url, "SELECT lower('ÄÖÜ')") == "äöü"
    assert execute(postgres.url, "SELECT 'Z' < 'a'") is True


def test_environment_for_clients_does_not_lead_astray(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGDATA", "PGHOST", "PGUSER", "PGOPTIONS", "PGSERVICE", "PGDATABASE"):
        monkeypatch.setenv(name, "nonsense")
    monkeypatch.setenv("PGPORT", "1")
    with EmbeddedPostgres(cluster, options=FAST) as postgres:
        url = postgres.url
    assert url.startswith("postgresql://postgres:")
    assert all_gone(cluster)


def test_two_side_by_side(postgres: EmbeddedPostgres, cluster: Path) -> None:
    with EmbeddedPostgres(cluster, options=FAST) as other:
        assert other.url != postgres.url
        assert other.pid != postgres.pid
        execute(other.url, "CREATE TABLE mine ()")
        assert execute(postgres.url, "SELECT to_regclass('mine')") is None
    assert execute(postgres.url, "SELECT 1") == 1


def test_taken_port_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedPostgresError) as refused:
            EmbeddedPostgres(tmp_path, port=port, options=FAST).start()
    assert not (tmp_path / "cluster").exists(), "said before any work is done"
    reason = os.strerror(errno.EADDRINUSE)
    assert str(refused.value) == (
        f"Port {port} on 127.0.0.1 cannot be used ({reason}); stop what listens there, or choose another."
    )


def test_port_taken_at_the_last_moment(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(embedded_postgres, "_refuse_taken", lambda _port: None)
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedPostgresError, match=f"Port {port} "):
            EmbeddedPostgres(cluster, port=port, options=FAST).start()
        ports = iter([port, free_port()])
        monkeypatch.setattr(embedded_postgres, "free_port", lambda: next(ports))
        with EmbeddedPostgres(cluster, options=FAST) as postgres:
            assert execute(postgres.url, "SELECT 1") == 1


def test_given_port_is_used_again_and_again(cluster: Path) -> None:
    port = free_port()
    postgres = EmbeddedPostgres(cluster, port=port, options=FAST)
    for _ in range(2):
        with postgres:
            assert execute(postgres.url, "SELECT current_setting('port')") == str(port)


def test_no_url_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="start it first"):
        _ = EmbeddedPostgres(tmp_path).url
