"""PostgreSQL runs for an ordinary user, and for root without being root, in a namespace or, without one, by setuid."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.postgres_owner import FAST, SECONDS, all_gone, announced_url, execute
from usage_service.local.embedded_postgres import EmbeddedPostgres
from usage_service.local.owned_process import NOBODY, owned_command

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
UNNAMED = 54321
OWN = "import sys; from pathlib import Path; from tests.support.postgres_owner import own; own(Path(sys.argv[1]))"
# Root in a user namespace that allows no further one, as in a locked-down container.
WITHOUT_NAMESPACES = f"""
import ctypes, pathlib
assert ctypes.CDLL(None).unshare(0x10000000) == 0
print("ready", flush=True)
input()
pathlib.Path("/proc/sys/user/max_user_namespaces").write_text("0")
{OWN}
"""
# An ordinary user to itself and to PostgreSQL, with root's files for its own.
AS_USER = f"""
import ctypes, pathlib, sys
assert ctypes.CDLL(None).unshare(0x10000000) == 0
for kind, content in (("setgroups", "deny"), ("uid_map", sys.argv[2] + " 0 1"), ("gid_map", sys.argv[2] + " 0 1")):
    pathlib.Path("/proc/self", kind).write_text(content)
{OWN}
"""


def _is_open(path: Path) -> bool:
    return all(place.stat().st_mode & 0o001 for place in (path, *path.parents))


@pytest.fixture
def reachable() -> Iterator[Path]:
    """Make a directory that all users may enter; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@as_root
@pytest.mark.skipif(not _is_open(Path(sys.executable).resolve()), reason="others may not run this interpreter")
def test_ordinary_user(reachable: Path) -> None:
    os.chown(reachable, NOBODY, NOBODY)
    command = [sys.executable, "-c", OWN, str(reachable)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, user=NOBODY, group=NOBODY, extra_groups=[]
    ) as child:
        _check_and_end(child, reachable, owner=NOBODY)


@as_root
@pytest.mark.parametrize("user", [NOBODY, UNNAMED])
def test_process_that_is_not_root(tmp_path: Path, user: int) -> None:
    command = [sys.executable, "-c", AS_USER, str(tmp_path), str(user)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        _check_and_end(child, tmp_path, owner=0)


@as_root
def test_root_without_namespaces(reachable: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WITHOUT_NAMESPACES, str(reachable)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == "ready\n"
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{child.pid}/{kind}").write_text("0 0 65536")
        child.stdin.write("\n")
        child.stdin.flush()
        _check_and_end(child, reachable, owner=NOBODY)
    # What nobody's server has made, root's goes on with.
    with EmbeddedPostgres(reachable, options=FAST) as postgres:
        assert execute(postgres.url, "SELECT 1") == 1
    assert all_gone(reachable)


@as_root
def test_root_in_a_namespace(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path, options=FAST) as postgres:
        status = Path(f"/proc/{postgres.pid}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        inside, outside, count = map(int, Path(f"/proc/{postgres.pid}/uid_map").read_text().split())
        assert pwd.getpwuid(inside).pw_name
        assert (inside != 0, outside, count) == (True, 0, 1)
        assert (tmp_path / "cluster").stat().st_uid == 0
        # Needs shared memory between processes.
        parallel = "SELECT count(*) FROM (SELECT relname FROM pg_class GROUP BY relname) AS names"
        assert int(str(execute(postgres.url, "SET debug_parallel_query = on", parallel))) > 100


def test_unprivileged_command_changes_only_root() -> None:
    probe = owned_command([sys.executable, "-c", "import os; print(os.geteuid())"], unprivileged=True)
    shown = subprocess.run(probe, stdout=subprocess.PIPE, text=True, check=True, timeout=SECONDS).stdout
    assert int(shown) != 0
    assert int(shown) == os.geteuid() or os.geteuid() == 0


def _check_and_end(child: subprocess.Popen[str], data_dir: Path, *, owner: int) -> None:
    try:
        url = announced_url(child)
        execute(url, "CREATE TABLE kept AS SELECT 42 AS answer")
        servers = [p for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(data_dir / "cluster")]
        assert len(servers) > 2
        owners = set()
        for server in servers:
            with suppress(psutil.NoSuchProcess):  # a worker that has ended meanwhile
                owners.add(server.uids().effective)
        assert owners == {owner}
        assert (data_dir / "cluster").stat().st_uid == owner
    finally:
        child.kill()
        child.wait(SECONDS)
    assert all_gone(data_dir)
