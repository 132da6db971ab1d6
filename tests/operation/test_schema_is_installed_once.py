"""Whichever program comes first installs the schema, once; a program of another version refuses to work with it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest
from structlog.testing import capture_logs

from tests.support.servers import connected, eventually
from tests.support.sessions import waiting
from usage_service.shared import schema
from usage_service.shared.postgres import connect, query
from usage_service.shared.schema import SCHEMA_VERSION, SchemaMismatchError, install_schema, schema_text

ROOT = Path(__file__).parents[2]
PACKAGES = {"usage_service", "builder", "warehouse"}


@pytest.fixture
async def empty_url(server_url: str) -> AsyncIterator[str]:
    """Make an empty database for this test."""
    name = f"empty_{uuid4().hex}"
    admin = await asyncpg.connect(urlunsplit(urlsplit(server_url)._replace(path="/postgres")))
    try:
        await admin.execute(f"CREATE DATABASE {name}")
        yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


async def run(url: str, statement: str) -> object:
    connection = await connect(url, application="tests")
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_five_at_once_install_it_once(empty_url: str) -> None:
    with capture_logs() as logged:
        await asyncio.gather(*(install_schema(empty_url) for _ in range(5)))
    assert [entry["event"] for entry in logged] == ["schema_installed"]
    assert await run(empty_url, "SELECT count(*) FROM schema_version") == 1
    assert await run(empty_url, "SELECT max(version) FROM schema_version") == SCHEMA_VERSION


async def test_who_has_waited_for_the_installation_sees_it(empty_url: str) -> None:
    """A session that has seen nothing installed, and has begun, waits until another one has installed it."""
    lock, is_installed = query("installation", "lock"), query("installation", "is_installed")
    async with connected(empty_url) as first, connected(empty_url) as second:

        async def waits() -> bool:
            return await waiting(first, "advisory") > 0

        assert not await second.fetchval(is_installed)
        async with second.transaction():
            async with first.transaction():
                await first.execute(lock, schema.INSTALL_LOCK)
                # Its first table is enough: a whole installation makes others forget all that they knew of tables.
                await first.execute("CREATE TABLE schema_version (version integer)")
                installing = asyncio.create_task(second.execute(lock, schema.INSTALL_LOCK))
                await eventually(waits, "the second session waits")
            await installing
            assert await second.fetchval(is_installed)


async def test_again_changes_nothing(empty_url: str) -> None:
    await install_schema(empty_url)
    installed = await run(empty_url, "SELECT installed_at FROM schema_version")
    with capture_logs() as logged:
        await install_schema(empty_url)
    assert not logged
    assert await run(empty_url, "SELECT installed_at FROM schema_version") == installed


async def test_half_of_it_is_never_left(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = schema_text()
    monkeypatch.setattr(schema, "schema_text", lambda: whole + "\nSELECT 1 / 0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await install_schema(empty_url)
    assert await run(empty_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    monkeypatch.undo()
    await install_schema(empty_url)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "INSERT INTO schema_version SELECT max(version) + 1, max(version) + 1 FROM schema_version",
            "newer than this program's .* update the program",
        ),
        ("UPDATE schema_version SET version = 0, works_with = 0", "start with an empty database"),
        ("DELETE FROM schema_version", "start with an empty database"),
    ],
)
async def test_another_version_is_refused_with_what_to_do(empty_url: str, change: str, message: str) -> None:
    await install_schema(empty_url)
    await run(empty_url, change)
    with pytest.raises(SchemaMismatchError, match=message):
        await install_schema(empty_url)


def test_the_repository_and_the_wheel_have_the_same_schema(tmp_path: Path) -> None:
    repository = (ROOT / "schema.sql").read_text("utf-8")
    assert schema_text() == repository
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("usage_service/schema.sql").decode() == repository
        assert {name.partition("/")[0] for name in archive.namelist() if name.endswith(".py")} == PACKAGES
        archive.extractall(tmp_path / "installed")
    found = subprocess.run(
        [sys.executable, "-c", "from usage_service.shared import schema; print(schema.__file__, schema.schema_text())"],
        cwd=tmp_path / "installed",
        env={"PYTHONPATH": str(tmp_path / "installed")},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.stdout.startswith(str(tmp_path / "installed"))
    assert repository in found.stdout
