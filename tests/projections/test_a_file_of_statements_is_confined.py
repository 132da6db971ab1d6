"""Statements of others run with the rights of their projection's role, now and later.

None takes another role, waits until one acts, or changes what another projection has.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.support.servers import Connection, connected
from tests.support.traffic import append_traffic, ignore, leftovers
from usage_service.projections.rebuilding import MaintenanceError, add, drop, rebuild, verify
from usage_service.shared.schema import schema_text

TABLE = "CREATE TABLE counted (number bigint NOT NULL);"
FOLD = """
CREATE FUNCTION fold_mine(after_position bigint, to_position bigint) RETURNS bigint LANGUAGE plpgsql AS $fold$
BEGIN
    INSERT INTO counted SELECT count(*) FROM event_log WHERE position > after_position AND position <= to_position;
    {then}
    RETURN 1;
END $fold$;
"""
STEAL = "CREATE TABLE public.stolen AS SELECT * FROM visitor_keys"
# Run whenever they run: they take what only the owner may have.
THIEF = f"CREATE FUNCTION thief() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN {STEAL}; RETURN 1; END $$;"
TRIGGERED = """
CREATE FUNCTION triggered() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM rebuild_mine.thief(); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON counted DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION triggered();
INSERT INTO counted VALUES (1);
"""
EXCLUDED = """
CREATE FUNCTION compared(n bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT n';
CREATE TABLE excluded (n bigint, EXCLUDE USING btree (compared(n) WITH =) DEFERRABLE INITIALLY DEFERRED);
"""
CAST = f"""
CREATE TYPE counts AS (number bigint);
CREATE FUNCTION told(c counts) RETURNS text LANGUAGE plpgsql AS $$ BEGIN {STEAL}; RETURN '1'; END $$;
CREATE CAST (counts AS text) WITH FUNCTION told(counts) AS ASSIGNMENT;
"""
ROLE = "cannot set parameter"
NO_RIGHT = "permission denied|must be owner|must be able to SET ROLE|must be superuser"
ATTEMPTS = {
    "RESET ROLE": ROLE,
    "SET ROLE usage_server": ROLE,
    "SET LOCAL ROLE postgres": ROLE,
    "SET SESSION AUTHORIZATION DEFAULT": ROLE,
    "RESET SESSION AUTHORIZATION": ROLE,
    "DO $do$ BEGIN RESET ROLE; END $do$": ROLE,
    "SELECT set_config('role', 'none', false)": ROLE,
    "SELECT * FROM visitor_keys": NO_RIGHT,
    "SELECT * FROM tokens": NO_RIGHT,
    "UPDATE event_log SET type = 'x_other'": NO_RIGHT,
    STEAL: NO_RIGHT,
    "SELECT lock_event_log()": NO_RIGHT,
    "LOCK TABLE event_log_lock IN SHARE UPDATE EXCLUSIVE MODE": NO_RIGHT,
    "LOCK TABLE event_log IN EXCLUSIVE MODE": NO_RIGHT,
    "COPY counted FROM PROGRAM 'true'": NO_RIGHT,
    "SELECT pg_read_file('PG_VERSION')": NO_RIGHT,
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()": NO_RIGHT,
    "ALTER SYSTEM SET fsync = off": "transaction block|cannot be executed|permission denied",
    "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION thief()": NO_RIGHT,
    "CREATE EXTENSION dblink": NO_RIGHT,
    "CREATE SCHEMA elsewhere": NO_RIGHT,
    "ALTER FUNCTION fold_mine(bigint, bigint) OWNER TO usage_server": NO_RIGHT,
    "GRANT usage_server TO usage_projections": NO_RIGHT + "|admin option",
    "COMMIT": "transaction commands",
    "\\echo": "syntax error",
}
# What would be done after the statements, by whoever is next.
LATER = {
    TRIGGERED: "DEFERRABLE",
    EXCLUDED: "DEFERRABLE",
    "ALTER TABLE counted ADD UNIQUE (number) DEFERRABLE;": "DEFERRABLE",
    "DECLARE later CURSOR WITH HOLD FOR SELECT thief();": "cursors WITH HOLD",
    "CREATE TEMPORARY TABLE builds ();": "temporary tables",
    "CREATE POLICY p ON counted USING (thief() = 1); ALTER TABLE counted ENABLE ROW LEVEL SECURITY;": "row level",
    "ALTER FUNCTION public.run_as_mine SECURITY INVOKER;": "changes to run_as_mine",
    "DROP FUNCTION public.run_as_mine;": "changes to run_as_mine",
    "ALTER FUNCTION public.run_as_mine SET SCHEMA rebuild_mine;": "changes to run_as_mine",
    "ALTER FUNCTION thief SECURITY DEFINER;": "functions that are SECURITY DEFINER",
    "DROP TABLE counted; CREATE VIEW counted AS SELECT thief() AS number;": "views",
    "DROP TABLE counted; CREATE MATERIALIZED VIEW counted AS SELECT 1::bigint AS number;": "views",
    CAST: "casts by functions",
    "SET search_path = rebuild_mine, pg_catalog;": "SET of a search path",
    "SET usage.now = '2000-01-01T00:00:00Z';": "SET of a search path",
    "SET statement_timeout = 0;": "SET of a search path",
}  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.sql"


async def nothing_was_taken(database: Connection) -> bool:
    taken = await database.fetchval(
        "SELECT to_regclass('public.stolen') IS NOT NULL OR to_regclass('mine.counted') IS NOT NULL"
    )
    return not taken and not await leftovers(database)


@pytest.mark.parametrize("within", ["the file", "its fold"])
async def test_no_statement_takes_another_role(own_database: Connection, path: Path, within: str) -> None:
    await append_traffic(own_database, 20)
    for statement, why in ATTEMPTS.items():
        if within == "the file":
            statements = TABLE + FOLD.format(then="") + THIEF + statement
        else:
            statements = TABLE + FOLD.format(then=f"EXECUTE $e$ {statement} $e$;") + THIEF
        with pytest.raises(MaintenanceError, match=why.replace("transaction commands", "transaction commands|command")):
            await add(own_database, path, statements, ignore)
        assert await nothing_was_taken(own_database), statement
        assert await own_database.fetchval("SELECT current_user = session_user")


@pytest.mark.parametrize("within", ["the file", "its fold"])
async def test_none_waits_until_another_role_acts(own_database: Connection, path: Path, within: str) -> None:
    await append_traffic(own_database, 20)
    before = await own_database.fetchval("SHOW search_path")
    for left, why in LATER.items():
        if within == "the file":
            statements = TABLE + FOLD.format(then="") + THIEF + left
        else:
            each = "".join(f"EXECUTE $e$ {one} $e$;" for one in whole(left))
            statements = TABLE + FOLD.format(then=each) + THIEF
        with pytest.raises(MaintenanceError, match=f"may have no .*{why}"):
            await add(own_database, path, statements, ignore)
        assert await nothing_was_taken(own_database), left
        assert await own_database.fetchval("SHOW search_path") == before


def whole(statements: str) -> list[str]:
    """Return statements one by one; a body of a function has semicolons of its own."""
    if "$$" in statements:
        return [statements]
    return [one for one in statements.split(";") if one.strip()]


CHANGES_ITSELF = FOLD.format(
    then="""
    CREATE OR REPLACE FUNCTION rebuild_mine.fold_mine(after_position bigint, to_position bigint) RETURNS bigint
    SECURITY INVOKER LANGUAGE plpgsql AS
    'BEGIN CREATE TABLE public.stolen AS SELECT * FROM visitor_keys; RETURN 1; END';"""
)


async def test_what_a_fold_becomes_is_confined(own_database: Connection, path: Path) -> None:
    await append_traffic(own_database, 20)
    await add(own_database, path, TABLE + CHANGES_ITSELF, ignore)
    await append_traffic(own_database, 20)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await own_database.execute("SELECT advance_projection('mine', 100)")
    assert await own_database.fetchval("SELECT to_regclass('public.stolen')") is None


async def test_its_functions_may_have_settings(own_database: Connection, path: Path) -> None:
    await append_traffic(own_database, 20)
    fold = FOLD.format(then="").replace("LANGUAGE plpgsql", "LANGUAGE plpgsql SET timezone = 'Asia/Tokyo'")
    await add(own_database, path, TABLE + fold, ignore)
    assert (await verify(own_database, "mine", ignore)).equal


OTHERS = "CREATE TYPE kind AS ENUM ('a'); CREATE TABLE counted (number bigint, id serial, kind kind);" + FOLD.format(
    then=""
).replace("INTO counted", "INTO counted (number)").replace("fold_mine", "fold_others")
ON_ANOTHERS = [
    "INSERT INTO others.counted VALUES (1)",
    "DELETE FROM others.counted",
    "TRUNCATE others.counted",
    "DROP TABLE others.counted",
    "ALTER TABLE others.counted ADD CHECK (number < 0)",
    "CREATE TABLE others.mine ()",
    "SELECT nextval('others.counted_id_seq')",
    "ALTER TYPE others.kind ADD VALUE 'b'",
    "ALTER FUNCTION others.fold_others SECURITY INVOKER",
    "CREATE OR REPLACE FUNCTION others.fold_others(a bigint, b bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1'",
    "SELECT others.fold_others(0, 1)",
    "SELECT public.run_as_others('TRUNCATE others.counted')",
    "ALTER FUNCTION public.run_as_others SECURITY INVOKER",
    "ALTER SCHEMA others RENAME TO another",
    "DROP SCHEMA others CASCADE",
    "INSERT INTO rebuild_others.counted VALUES (1)",
]  # fmt: skip


@pytest.fixture
async def others(own_database: Connection, tmp_path: Path) -> Path:
    """Add a projection that is another's, and begin to fill it anew."""
    await append_traffic(own_database, 20)
    path = tmp_path / "others.sql"
    await add(own_database, path, OTHERS, ignore)
    await own_database.execute("SELECT begin_filling('others', 'rebuild')")
    return path


@pytest.mark.usefixtures("others")
async def test_none_changes_what_another_has(own_database: Connection, path: Path) -> None:
    counted = await own_database.fetch("SELECT * FROM others.counted")
    for statement in ON_ANOTHERS:
        for statements in (
            TABLE + FOLD.format(then="") + statement,
            TABLE + FOLD.format(then=f"EXECUTE $e$ {statement} $e$;"),
        ):
            with pytest.raises(MaintenanceError, match=NO_RIGHT):
                await add(own_database, path, statements, ignore)
    reading = TABLE + FOLD.format(then="PERFORM FROM others.counted;")
    await add(own_database, path, reading, ignore)
    assert await own_database.fetch("SELECT * FROM others.counted") == counted
    await rebuild(own_database, "others", {}, ignore)


ROLES = "usage_server, usage_builder, usage_reader, usage_projections"
OWN_ROLES = """
SELECT rolname FROM pg_roles
WHERE rolname ~ format('^usage_%s_', (SELECT oid FROM pg_database WHERE datname = current_database()))
"""


async def test_its_role_goes_with_it(own_database: Connection, others: Path) -> None:
    assert [row[0].split("_", 2)[2] for row in await own_database.fetch(OWN_ROLES)] == ["others"]
    await add(own_database, others, OTHERS, ignore)
    await drop(own_database, "others")
    assert await own_database.fetch(OWN_ROLES) == []
    with pytest.raises(MaintenanceError):
        await add(own_database, others, "SELECT nothing", ignore)
    assert await own_database.fetch(OWN_ROLES) == []
    assert await own_database.fetchval("SELECT to_regproc('run_as_others') IS NULL")


@pytest.fixture
async def rented(own_database: Connection, own_database_url: str) -> AsyncIterator[Connection]:
    """Connect to a database whose owner is no superuser and may create roles, as where PostgreSQL is rented."""
    parts = urlsplit(own_database_url)
    name = f"{parts.path[1:]}_rented"
    await own_database.execute(f"CREATE ROLE {name} LOGIN CREATEROLE PASSWORD 'secret'")
    await own_database.execute(f"GRANT {ROLES} TO {name} WITH ADMIN OPTION")
    await own_database.execute(f"CREATE DATABASE {name} OWNER {name} TEMPLATE template1")
    url = parts._replace(netloc=f"{name}:secret@{parts.hostname}:{parts.port}", path=f"/{name}").geturl()
    async with connected(url) as database:
        await database.execute(schema_text())
        yield database
    await own_database.execute(f"DROP DATABASE {name}")
    await own_database.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


async def test_an_owner_that_is_no_superuser_adds_one(rented: Connection, tmp_path: Path) -> None:
    await append_traffic(rented, 20)
    path = tmp_path / "others.sql"
    await add(rented, path, OTHERS, ignore)
    await rebuild(rented, "others", {}, ignore)
    await drop(rented, "others")
    assert await rented.fetch(OWN_ROLES) == []
