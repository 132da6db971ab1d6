"""Migrations lead an older schema to what a fresh one is, whole steps at a time, under servers that go on working.

The program's own lead a database of every earlier version, kept in `schemas/`, to today's; later ones are made up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from tests.conftest import SECRET, Start, new_database
from tests.support.catalog import catalog
from tests.support.servers import Connection, connected, event, eventually, post
from tests.support.sessions import waiting
from tests.support.traffic import ignore
from usage_service import service
from usage_service.projections import rebuilding
from usage_service.shared import schema as schema_module
from usage_service.shared.migrations import FIRST_VERSION, Migration, MigrationFileError, load_migrations
from usage_service.shared.schema import (
    SCHEMA_VERSION,
    Schema,
    SchemaMismatchError,
    current_schema,
    install_schema,
    schema_text,
)
from usage_service.shared.settings import ServerSettings

ADDED = """
CREATE TABLE notes (probe text PRIMARY KEY, text text NOT NULL CONSTRAINT it_says_something CHECK (text <> ''));
CREATE INDEX notes_by_text ON notes (text);
GRANT SELECT ON notes TO usage_server, usage_builder, usage_reader, usage_projections;
CREATE FUNCTION note_probe(for_probe text, said text) RETURNS void LANGUAGE sql SECURITY DEFINER
SET search_path = public, pg_temp AS $$ INSERT INTO notes VALUES (for_probe, said) $$;
REVOKE ALL ON FUNCTION note_probe FROM PUBLIC;
GRANT EXECUTE ON FUNCTION note_probe TO usage_server;
CREATE OR REPLACE FUNCTION utc_day(instant timestamptz) RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (instant AT TIME ZONE 'Etc/UTC')::date
$$;
"""
NOW, NEXT, LATER = SCHEMA_VERSION, SCHEMA_VERSION + 1, SCHEMA_VERSION + 2
SECOND = Migration(NEXT, NOW, "next_notes.sql", ADDED)
THIRD = Migration(LATER, NOW, "later_stars.sql", "ALTER TABLE notes ADD COLUMN stars smallint NOT NULL DEFAULT 0;")
BREAKING = Migration(LATER, LATER, "later_no_stars.sql", "ALTER TABLE notes DROP COLUMN text;")
SCHEMAS = Path(__file__).parent / "schemas"
GATE = 990_001
EMPTY = "template1"
EVENTS_OF_BEFORE = """
INSERT INTO event_log
SELECT nextval('event_position'), gen_random_uuid(), 'probe_viewed', 1, current_instant() - number * interval '1 hour',
       current_instant(), md5((number % 5)::text)::uuid, 'fog', 'nightly', 'old_ms', 'test', '{"found": true}',
       gen_random_uuid()
FROM generate_series(1, 40) number
UNION ALL  -- one session about more probes and products than a later version keeps
SELECT nextval('event_position'), gen_random_uuid(), 'probe_viewed', 1, current_instant(), current_instant(),
       md5('everything')::uuid, 'product_' || number % 110, 'nightly', 'probe_' || number, 'test',
       '{"found": true}'::jsonb,
       gen_random_uuid()
FROM generate_series(1, 150) number
UNION ALL  -- one version on three days
SELECT nextval('event_position'), gen_random_uuid(), 'release_published', 1,
       '2022-05-03T00:00:00Z'::timestamptz - number * interval '1 week', current_instant(), NULL, 'fog', 'release',
       NULL, 'test', '{"version": 100}', gen_random_uuid()
FROM generate_series(0, 2) number
"""


def made_up(*migrations: Migration) -> Schema:
    """Make the schema of a later program: its migration of today's database, and its text for an empty one."""
    text = schema_text() + "".join(migration.text for migration in migrations)
    return Schema(NOW + len(migrations), text, [*load_migrations(), *migrations])


async def versions(database: Connection) -> list[int]:
    return [row[0] for row in await database.fetch("SELECT version FROM schema_version ORDER BY version")]


def waiting_for(database: Connection, lock: str) -> Callable[[], Awaitable[bool]]:
    """Return whether a migration of this database waits for such a lock."""

    async def waits() -> bool:
        return await waiting(database, lock, application="%schema") > 0

    return waits


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def fresh_catalog(server_url: str, worker_id: str) -> set[tuple[str, str]]:
    """Return the catalogue of the later program's schema in an empty database."""
    async with new_database(server_url, f"usage_{worker_id}_fresh", EMPTY) as url:
        assert await install_schema(url, schema=made_up(SECOND, THIRD)) == LATER
        async with connected(url) as fresh:
            assert await versions(fresh) == [LATER]
            return await catalog(fresh)


def test_the_programs_own_are_whole() -> None:
    assert current_schema().migrations == load_migrations()
    assert FIRST_VERSION + len(load_migrations()) == SCHEMA_VERSION


class SchemaOfBefore(NamedTuple):
    """The schema of an earlier version of the program."""

    version: int
    text: str


@pytest.fixture(scope="module", params=sorted(SCHEMAS.glob("*.sql")), ids=lambda path: path.stem)
def schema_of_before(request: pytest.FixtureRequest) -> SchemaOfBefore:
    path: Path = request.param
    return SchemaOfBefore(int(path.stem), path.read_text("utf-8"))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def made_before(server_url: str, worker_id: str, schema_of_before: SchemaOfBefore) -> AsyncIterator[str]:
    """Make a database as a program of an earlier version made it, for tests to copy; return its name."""
    name = f"usage_{worker_id}_made_before"
    async with new_database(server_url, name, EMPTY) as url:
        async with connected(url) as old:
            await old.execute(schema_of_before.text)
            await old.execute(
                "INSERT INTO schema_version (version, works_with) VALUES ($1, $1)", schema_of_before.version
            )
        yield name


@pytest.fixture
async def url_of_before(server_url: str, worker_id: str, made_before: str) -> AsyncIterator[str]:
    """Return the address of a database of the test's own, of an earlier version."""
    async with new_database(server_url, f"usage_{worker_id}_before", made_before) as url:
        yield url


def test_every_earlier_version_is_kept() -> None:
    assert [int(path.stem) for path in sorted(SCHEMAS.glob("*.sql"))] == list(range(FIRST_VERSION, SCHEMA_VERSION))


async def test_a_database_of_before_becomes_todays(
    url_of_before: str, own_database: Connection, schema_of_before: SchemaOfBefore
) -> None:
    stops_programs = any(schema_of_before.version < migration.works_with for migration in load_migrations())
    if stops_programs:
        with pytest.raises(
            SchemaMismatchError, match="stop all servers and builders, then run `usage-service migrate`"
        ):
            await install_schema(url_of_before)
    assert await install_schema(url_of_before, alone=stops_programs) == SCHEMA_VERSION
    async with connected(url_of_before) as database:
        assert await catalog(database) == await catalog(own_database)
        assert await versions(database) == list(range(schema_of_before.version, SCHEMA_VERSION + 1))


BEFORE_SCHEMA_3 = pytest.mark.parametrize(
    "schema_of_before", sorted(SCHEMAS.glob("000[12].sql")), ids=lambda path: path.stem, indirect=True
)
NAMED_ERASURE = """
INSERT INTO event_log (position, event_id, type, occurred_at, recorded_at, visitor, source, data, digest)
SELECT nextval('event_position'), gen_random_uuid(), 'visitor_erased', now(), now(), gen_random_uuid(), 'test', '{}',
       gen_random_uuid()
"""


@BEFORE_SCHEMA_3
async def test_who_was_erased_before_is_named_no_longer(url_of_before: str) -> None:
    unchanged = "SELECT event_log::text FROM event_log WHERE type <> 'visitor_erased' ORDER BY position"
    async with connected(url_of_before) as database:
        for statement in (NAMED_ERASURE, EVENTS_OF_BEFORE, NAMED_ERASURE):
            await database.execute(statement)
        before = await database.fetch(unchanged)
        await install_schema(url_of_before, alone=True)
        assert await database.fetch(unchanged) == before
        erased = await database.fetch("SELECT visitor FROM event_log WHERE type = 'visitor_erased'")
        assert [row["visitor"] for row in erased] == [None, None]


ERASING = """
SELECT outcome FROM append_events(
    ARRAY[gen_random_uuid(), gen_random_uuid()], ARRAY['page_viewed', 'visitor_erased'], ARRAY[1, 1]::smallint[],
    ARRAY[now(), now()], array_fill(gen_random_uuid(), ARRAY[2]), ARRAY[1, 1], ARRAY['fog', NULL],
    ARRAY[NULL, NULL]::text[], ARRAY[NULL, NULL]::text[], ARRAY['test', 'test'], ARRAY['{}', '{}']::jsonb[],
    ARRAY[gen_random_uuid(), gen_random_uuid()]
)
"""
LOG_LOCK_OF_BEFORE = "SELECT pg_advisory_xact_lock(x'676c616d'::bigint)"


@BEFORE_SCHEMA_3
async def test_who_is_erased_by_a_call_that_outlasts_the_upgrade_is_not_named(url_of_before: str) -> None:
    """What such a call does is what the function did when it began."""
    async with connected(url_of_before) as database, connected(url_of_before) as caller:

        async def waits() -> bool:
            return await waiting(database, "advisory") > 0

        async with connected(url_of_before) as holder, holder.transaction():
            await holder.execute(LOG_LOCK_OF_BEFORE)
            call = asyncio.create_task(caller.fetch(ERASING))
            await eventually(waits, "the call is under way")
            await install_schema(url_of_before, alone=True)
        assert [row["outcome"] for row in await call] == ["recorded", "recorded"]
        events = await database.fetch("SELECT type, visitor FROM event_log ORDER BY position")
        assert [(row["type"], row["visitor"] is None) for row in events] == [
            ("page_viewed", False),
            ("visitor_erased", True),
        ]


async def test_what_it_held_is_answered_and_goes_on(url_of_before: str, start: Start) -> None:
    """Events that the earlier version recorded and folded, and a verification that was under way."""
    async with connected(url_of_before) as database:
        await database.execute(EVENTS_OF_BEFORE)
        for projection in ("popularity", "releases", "sessions", "timeseries"):
            await database.execute("SELECT advance_projection($1, 1000, 'live')", projection)
        await database.execute("SELECT begin_filling('sessions', 'verify', NULL)")
    await install_schema(url_of_before, alone=True)
    client = await start(ServerSettings(database_url=url_of_before, visitor_secret=SECRET))
    async with connected(url_of_before) as database:
        position = await database.fetchval("SELECT last_position()")
        [item] = await post(client, event(visitor="somebody"))
        assert item["position"] == position + 1
        answer = await client.get(f"/v1/popularity?product=fog&window=28d&at_least={position + 1}&wait=5")
        views = {probe["probe"]: probe["views"] for probe in (await answer.json())["probes"]}
        assert views["old_ms"] == 40
        await eventually(all_folded(database), "every projection has folded the log")
        published_at = await database.fetchval("SELECT published_at FROM releases")
        retraction = {"version": 100, "published_at": published_at.isoformat()}
        await post(client, event("release_retracted", channel="release", visitor=None, data=retraction))
        await eventually(all_folded(database), "every projection has folded the retraction")
        assert await database.fetchval("SELECT published_at FROM releases") == published_at + timedelta(weeks=1)
        for projection in ("popularity", "sessions", "timeseries", "journeys", "catalogue", "releases", "build_costs"):
            verdict = await rebuilding.verify(database, projection, ignore)
            assert verdict.equal, projection


ADDED_BEFORE = """
CREATE TYPE kind AS ENUM ('a');
CREATE FUNCTION first_kind() RETURNS kind LANGUAGE sql IMMUTABLE AS 'SELECT ''a''::kind';
CREATE TABLE of_types (t text, id serial, number bigint GENERATED ALWAYS AS IDENTITY, kind kind DEFAULT first_kind());
CREATE STATISTICS of_both ON t, kind FROM of_types;
CREATE SEQUENCE loose;
CREATE FUNCTION fold_types(after_position bigint, to_position bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO of_types (t) SELECT type FROM event_log WHERE position > after_position AND position <= to_position
$$;
"""
OF_THE_SHARED_ROLE = """
SELECT pg_describe_object(classid, objid, 0) FROM pg_shdepend
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND refobjid = 'usage_projections'::regrole AND deptype = 'o'
"""


@pytest.mark.parametrize(
    "schema_of_before", sorted(SCHEMAS.glob("000[345].sql")), ids=lambda path: path.stem, indirect=True
)
async def test_a_projection_that_was_added_gets_a_role_of_its_own(url_of_before: str, tmp_path: Path) -> None:
    path = tmp_path / "types.sql"
    async with connected(url_of_before) as database:
        await database.execute(EVENTS_OF_BEFORE)
        await rebuilding.add(database, path, ADDED_BEFORE, ignore)
        await database.execute("SELECT begin_filling('types', 'verify', NULL)")
        await install_schema(url_of_before, alone=True)
        assert await database.fetch(OF_THE_SHARED_ROLE) == []
        await database.execute(EVENTS_OF_BEFORE)
        await database.execute("SELECT advance_projection('types', 1000, 'live')")
        counted = "SELECT count(*) = last_position() FROM types.of_types"
        assert await database.fetchval(counted)
        await rebuilding.rebuild(database, "types", {}, ignore)
        assert await database.fetchval(counted)


def all_folded(database: Connection) -> Callable[[], Awaitable[bool]]:
    async def folded() -> bool:
        return bool(
            await database.fetchval("SELECT min(position) = last_position() FROM projections WHERE stage = 'live'")
        )

    return folded


async def test_an_upgraded_database_equals_a_fresh_one(
    own_database_url: str, own_database: Connection, fresh_catalog: set[tuple[str, str]]
) -> None:
    assert await catalog(own_database) != fresh_catalog
    assert await install_schema(own_database_url, schema=made_up(SECOND, THIRD)) == LATER
    assert await catalog(own_database) == fresh_catalog
    assert await versions(own_database) == [NOW, NEXT, LATER]


@pytest.mark.parametrize(
    "forgotten",
    [
        "GRANT SELECT ON notes TO usage_server, usage_builder, usage_reader, usage_projections;",
        "REVOKE ALL ON FUNCTION note_probe FROM PUBLIC;",
        "CREATE INDEX notes_by_text ON notes (text);",
        " CONSTRAINT it_says_something CHECK (text <> '')",
        "'Etc/",
    ],
)
async def test_what_a_migration_forgets_is_found(
    own_database_url: str, own_database: Connection, fresh_catalog: set[tuple[str, str]], forgotten: str
) -> None:
    assert forgotten in ADDED
    faulty = SECOND._replace(text=ADDED.replace(forgotten, "'" if forgotten == "'Etc/" else ""))
    await install_schema(own_database_url, schema=made_up(faulty, THIRD))
    assert await catalog(own_database) != fresh_catalog


async def test_an_interrupted_one_leaves_nothing_and_is_resumed(
    own_database_url: str, own_database: Connection
) -> None:
    gated = THIRD._replace(text=f"{THIRD.text} SELECT pg_advisory_xact_lock({GATE});")

    async with connected(own_database_url) as holder:
        await holder.execute("SELECT pg_advisory_lock($1)", GATE)
        migrating = asyncio.create_task(install_schema(own_database_url, schema=made_up(SECOND, gated)))
        await eventually(waiting_for(own_database, "advisory"), "the third migration is under way")
        await own_database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE '%schema' AND datname = current_database()"
        )
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            await migrating
        assert migrating.done()
        assert await versions(own_database) == [NOW, NEXT]
        assert not any("stars" in text for _, text in await catalog(own_database))
    assert await install_schema(own_database_url, schema=made_up(SECOND, gated)) == LATER
    assert await versions(own_database) == [NOW, NEXT, LATER]


async def test_five_at_once_apply_each_once(own_database_url: str, own_database: Connection) -> None:
    later = made_up(SECOND, THIRD)
    found = await asyncio.gather(*(install_schema(own_database_url, schema=later) for _ in range(5)))
    assert found == [LATER] * 5
    assert await versions(own_database) == [NOW, NEXT, LATER]


async def test_a_table_in_use_is_waited_for_in_short_turns(own_database_url: str, own_database: Connection) -> None:
    """Between its tries nobody queues behind the migration."""
    await install_schema(own_database_url, schema=made_up(SECOND))
    async with connected(own_database_url) as reader:
        reading = reader.transaction()
        await reading.start()
        await reader.fetch("SELECT * FROM notes")
        migrating = asyncio.create_task(install_schema(own_database_url, schema=made_up(SECOND, THIRD)))
        await eventually(waiting_for(own_database, "relation"), "the migration wants the table")
        # Behind the migration's try, which gives up before this one does.
        await own_database.execute("SET lock_timeout = '8s'; SELECT * FROM notes")
        assert not migrating.done()
        await reading.rollback()
        assert await migrating == LATER


async def test_old_and_new_servers_work_side_by_side(
    own_database_url: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ServerSettings(database_url=own_database_url, visitor_secret=SECRET)
    old = await start(settings)
    await post(old, event())

    async def install_later(url: str) -> int:
        return await install_schema(url, schema=made_up(SECOND))

    with monkeypatch.context() as patched:
        patched.setattr(service, "install_schema", install_later)
        new = await start(settings)
    restarted = await start(settings)  # an old program, on the newer schema
    for number, client in enumerate((new, old, restarted), 2):
        [item] = await post(client, event())
        assert item["position"] == number
        assert (await client.get(f"/v1/popularity?product=fog&at_least={number}&wait=5")).status == 200


async def test_what_old_programs_cannot_stand_is_not_done_under_them(
    own_database_url: str, own_database: Connection
) -> None:
    later = made_up(SECOND, BREAKING)
    with pytest.raises(SchemaMismatchError, match=r"later_no_stars.sql: stop all .* `usage-service migrate`"):
        await install_schema(own_database_url, schema=later)
    assert await versions(own_database) == [NOW, NEXT]
    assert await install_schema(own_database_url) == NEXT  # programs of today still start
    assert await install_schema(own_database_url, schema=later, alone=True) == LATER
    with pytest.raises(SchemaMismatchError, match=rf"programs of {LATER} and later work with, .* update the program"):
        await install_schema(own_database_url)


@pytest.fixture
async def no_owners_url(own_database_url: str, own_database: Connection) -> AsyncIterator[str]:
    parts = urlsplit(own_database_url)
    role = f"no_owner_of{parts.path.replace('/', '_')}"  # roles are the cluster's, and other workers make theirs
    await own_database.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret' IN ROLE usage_server")
    yield parts._replace(netloc=f"{role}:secret@{parts.hostname}:{parts.port}").geturl()
    await own_database.execute(f"DROP ROLE {role}")


async def test_a_login_that_may_not_is_told_who_may(no_owners_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_module, "START_SECONDS", 0.2)
    assert await install_schema(no_owners_url) == NOW
    with pytest.raises(SchemaMismatchError, match=r"may not change the schema .* with the owner's"):
        await install_schema(no_owners_url, schema=made_up(SECOND))


async def test_a_login_that_may_not_waits_for_who_may(own_database_url: str, no_owners_url: str) -> None:
    """Everything of a composition is started at once: a program may be there before `migrate` is done."""
    with capture_logs() as logged:
        waiting = asyncio.create_task(install_schema(no_owners_url, schema=made_up(SECOND)))

        async def waits() -> bool:
            return any(entry["event"] == "waiting_for_the_owner_to_change_the_schema" for entry in logged)

        await eventually(waits, "the login waits")
        assert await install_schema(own_database_url, schema=made_up(SECOND)) == NEXT
        assert await waiting == NEXT


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("0002_notes.sql", "-- works with: 1\n-- Notes.\nSELECT 1;", None),
        ("0003_notes.sql", "-- works with: 1\n-- Notes.\nSELECT 1;", "the next is number 2"),
        ("2_notes.sql", "-- works with: 1\n-- Notes.\nSELECT 1;", "is named like"),
        ("0002_notes.sql", "SELECT 1;", "begin with `-- works with"),
        ("0002_notes.sql", "-- works with: 1\nSELECT 1;", "and why"),
        ("0002_notes.sql", "-- works with: 3\n-- Notes.\nSELECT 1;", "begin with"),
    ],
)
def test_a_file_that_is_not_as_it_has_to_be_is_refused(
    tmp_path: Path, name: str, text: str, message: str | None
) -> None:
    (tmp_path / "README.md").write_text("no migration")
    (tmp_path / name).write_text(text)
    if message is None:
        assert [(one.version, one.works_with, one.name) for one in load_migrations(tmp_path)] == [(2, 1, name)]
    else:
        with pytest.raises(MigrationFileError, match=message):
            load_migrations(tmp_path)
