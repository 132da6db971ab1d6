"""A dump of a system at work, restored into a new PostgreSQL, is that system at a moment, and goes on from there."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.conftest import FAST, SECRET, Start
from tests.support.servers import Client, Connection, connected, event, post
from tests.support.traffic import PROJECTIONS, append_traffic, fold_all, ignore
from usage_service.local.embedded_postgres import EmbeddedPostgres
from usage_service.local.postgres_programs import EmbeddedPostgresError, binary, environment
from usage_service.projections.rebuilding import add, verify
from usage_service.projections.runner import Folder
from usage_service.shared.settings import ServerSettings

OWN = Path(__file__).parents[2] / "docs" / "examples" / "tools_by_day.sql"
HASH_UP_TO = """
SELECT count(*), md5(string_agg(md5(l::text), '' ORDER BY position)) FROM event_log l WHERE position <= $1
"""
HASHES = """
SELECT p.name, p.position, t.name AS of_table, h.number, h.hash FROM projections p
CROSS JOIN LATERAL unnest(p.tables) AS t (name) CROSS JOIN LATERAL hash_table(p.home, t.name) h ORDER BY 1, 3
"""


def run(program: str, *arguments: str, stdin: str = "") -> str:
    """Run one of PostgreSQL's programs as the guide says, and return what it prints."""
    try:
        command = [str(binary(program)), *arguments]
    except EmbeddedPostgresError:
        pytest.skip(f"{program} is not part of the installed PostgreSQL")
    done = subprocess.run(
        command, check=False, input=stdin, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def dump(url: str, file: Path) -> str:
    """Make a backup, and return the roles, which it does not hold."""
    await asyncio.to_thread(run, "pg_dump", "--format=custom", f"--file={file}", url)
    return await asyncio.to_thread(run, "pg_dumpall", "--roles-only", "--no-role-passwords", f"--dbname={url}")


@asynccontextmanager
async def restored(directory: Path, file: Path, roles: str) -> AsyncIterator[str]:
    """Start a new PostgreSQL with the backup, and return its address."""
    postgres = EmbeddedPostgres(directory, options=FAST)
    postgres.start()
    try:
        await asyncio.to_thread(run, "psql", "--quiet", f"--dbname={postgres.url}", stdin=roles)
        options = ["--single-transaction", "--exit-on-error", f"--dbname={postgres.url}"]
        await asyncio.to_thread(run, "pg_restore", *options, str(file))
        yield postgres.url
    finally:
        postgres.stop()


async def keep_writing(database: Connection, end: asyncio.Event) -> None:
    """Append and fold until the end, and at least once before."""
    folders = [Folder(name) for name in PROJECTIONS]
    while not end.is_set():
        await append_traffic(database, 200)
        for folder in folders:
            await folder.fold(database)


async def test_a_dump_of_a_live_system_is_restored_and_goes_on(
    own_database_url: str, own_database: Connection, start: Start, tmp_path: Path
) -> None:
    old = await start(ServerSettings(database_url=own_database_url, visitor_secret=SECRET))
    known = event()
    [original] = await post(old, known)
    async with connected(own_database_url) as writer:
        await append_traffic(writer, 500)
        await add(writer, OWN, OWN.read_text("utf-8"), ignore)
        end = asyncio.Event()
        writing = asyncio.create_task(keep_writing(writer, end))
        roles = await dump(own_database_url, tmp_path / "backup")
        end.set()
        await writing
    async with restored(tmp_path / "new", tmp_path / "backup", roles) as url, connected(url) as database:
        position = await same_log(own_database, database)
        assert all([(await verify(database, name, ignore)).equal for name in [*PROJECTIONS, OWN.stem]])
        new = await start(ServerSettings(database_url=url, visitor_secret=SECRET))
        await goes_on(new, database, position)
        assert await post(new, known) == [original | {"status": "duplicate"}]
        await new.close()


async def same_log(original: Connection, copy: Connection) -> int:
    """Fail unless the copy is the beginning of the original, and return its end."""
    position: int = await copy.fetchval("SELECT last_position()")
    assert position > 500
    assert await original.fetchval("SELECT last_position()") > position, "nothing was written meanwhile"
    assert await copy.fetchrow(HASH_UP_TO, position) == await original.fetchrow(HASH_UP_TO, position)
    return position


async def goes_on(client: Client, database: Connection, position: int) -> None:
    """Fail unless new events follow the old, of the visitors known before, and are folded."""
    [item] = await post(client, event())
    assert item["position"] > position
    pseudonyms = "SELECT DISTINCT visitor FROM event_log WHERE position IN (1, $1)"
    assert len(await database.fetch(pseudonyms, item["position"])) == 1
    fresh = await client.get(f"/v1/sessions?at_least={item['position']}&wait=5")
    assert fresh.status == 200


async def test_a_dump_at_rest_gives_the_same_hashes(
    own_database_url: str, own_database: Connection, tmp_path: Path
) -> None:
    await append_traffic(own_database, 1_000)
    await fold_all(own_database)
    roles = await dump(own_database_url, tmp_path / "backup")
    async with restored(tmp_path / "new", tmp_path / "backup", roles) as url, connected(url) as database:
        assert await database.fetchrow(HASH_UP_TO, 1_000) == await own_database.fetchrow(HASH_UP_TO, 1_000)
        assert await database.fetch(HASHES) == await own_database.fetch(HASHES)
