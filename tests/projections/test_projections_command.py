"""`usage-service projections` and `verify`: what they say, what they refuse in one line, their exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT
from contextlib import suppress
from pathlib import Path

import pytest

from tests.projections.test_projections_of_ones_own import TYPES
from tests.support.commands import Run, runner
from tests.support.poison import BROKEN, MENDED, POISONS, put_in
from tests.support.servers import Connection, eventually
from tests.support.traffic import PROJECTIONS, append_traffic, assert_as_the_reference, fold_all, leftovers
from usage_service.projections.runner import Folder, UnfoldableError
from usage_service.shared.exit_codes import ExitCode
from usage_service.shared.postgres import connect

FATAL = f"""
{BROKEN}
SELECT append_own_event('release_published', 'fog', 'nightly', NULL, 'test', '{{"version": 9999}}');
"""
SETTINGS = "SELECT settings FROM projections WHERE name = 'sessions' AND stage = 'live'"


@pytest.fixture
def usage_service(own_database_url: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command on a database of the test's own; return its exit code, output and errors."""
    return runner(capfd, monkeypatch, DATABASE_URL=own_database_url)


async def test_the_list_tells_how_far_each_is_and_what_it_cannot_fold(
    usage_service: Run, own_database: Connection
) -> None:
    await append_traffic(own_database, 1200)
    await fold_all(own_database)
    await own_database.execute(FATAL)
    await append_traffic(own_database, 10)
    folder = Folder("releases")
    with pytest.raises(UnfoldableError):
        await folder.fold(own_database)
    code, out, err = await usage_service("projections", "--format", "table")
    assert code == 0
    lines = {line.split()[0]: line.split() for line in out.splitlines()}
    assert lines["catalogue"][:5] == ["catalogue", "live", "1", "1,200", "11"]
    assert lines["catalogue"][-1] == "up"
    assert lines["releases"][:5] == ["releases", "live", "1", "1,200", "11"]
    assert lines["releases"][-1] == "stuck"
    assert "gap_minutes=30" in lines["sessions"]
    assert "releases: cannot go on after position 1200 since" in err
    assert 'relation "versions" does not exist' in err


async def test_a_rebuild_with_another_setting(usage_service: Run, own_database: Connection) -> None:
    await append_traffic(own_database, 300)
    await fold_all(own_database)
    before = await own_database.fetchval("SELECT count(*) FROM sessions")
    done = await usage_service("projections", "rebuild", "sessions", "--set", "gap_minutes=300")
    assert done == (0, "sessions: rebuilt and live, at position 300\n", "")
    assert (await own_database.fetchval(SETTINGS))["gap_minutes"] == 300
    assert await own_database.fetchval("SELECT count(*) FROM sessions") < before
    assert (await usage_service("verify", "sessions"))[0] == 0
    done = await usage_service(
        "projections", "rebuild", "sessions", "--set", "gap_minutes=30", "--set", 'own_hosts=["x.org"]'
    )
    assert (await own_database.fetchval(SETTINGS)) == {"gap_minutes": 30, "own_hosts": ["x.org"]}
    assert await own_database.fetchval("SELECT count(*) FROM sessions") == before


async def test_a_rebuild_that_was_begun_otherwise(usage_service: Run, own_database: Connection) -> None:
    await append_traffic(own_database, 100)
    await own_database.execute(
        "SELECT begin_filling('sessions', 'rebuild', '{\"gap_minutes\": 45, \"own_hosts\": []}')"
    )
    code, out, err = await usage_service("projections", "rebuild", "sessions")
    assert (code, out) == (2, "")
    assert err.startswith("usage-service: a rebuild of sessions with settings {")
    assert "gap_minutes" in err
    assert err.endswith("was begun: go on with that, or --restart\n")
    assert (await usage_service("projections", "rebuild", "--restart", "sessions"))[0] == 0
    await fold_all(own_database)
    await assert_as_the_reference(own_database)
    assert not await leftovers(own_database)


async def test_what_was_begun_is_given_up(usage_service: Run, own_database: Connection) -> None:
    await append_traffic(own_database, 100)
    await own_database.execute("SELECT begin_filling('sessions', stage) FROM unnest('{rebuild,verify}'::text[]) stage")
    await own_database.execute("SELECT define_projection('types', 'rebuild', $1)", TYPES)
    for name in ("sessions", "types"):
        done = await usage_service("projections", "abandon", name)
        assert done == (0, f"{name}: what was filled beside it is dropped\n", "")
    assert not await leftovers(own_database)


ALL = "build_costs, catalogue, journeys, popularity, releases, sessions, timeseries"
UNKNOWN = f"there is no projection nothing; there are {ALL}"
NOTHING_BEGUN = "nothing is filled beside sessions; `usage-service projections` lists what is"
WRONG = {
    ("projections", "rebuild", "nothing"): UNKNOWN,
    ("projections", "rebuild", "sessions", "--set", "g=1"): "sessions has no setting g; it has gap_minutes, own_hosts",
    ("projections", "rebuild", "releases", "--set", "gap=1"): "releases has no setting gap; it has none",
    ("projections", "rebuild", "sessions", "--set", "gap_minutes=long"): "gap_minutes must be like 30, which it is now",
    ("projections", "rebuild", "sessions", "--set", "gap_minutes=0"): "gap_minutes must be 1 or more",
    ("projections", "rebuild", "sessions", "--set", "gap_minutes=-5"): "gap_minutes must be 1 or more",
    ("projections", "rebuild", "sessions", "--set", "gap_minutes"): "--set gap_minutes: give NAME=VALUE",
    ("projections", "retry", "nothing"): UNKNOWN,
    ("projections", "discard", "nothing"): UNKNOWN,
    ("projections", "abandon", "sessions"): NOTHING_BEGUN,
    ("projections", "drop", "sessions"): "no projection sessions was added; the built-in ones stay",
    ("verify", "nothing"): UNKNOWN,
}  # fmt: skip


async def test_what_is_wrong_is_told_in_one_line(usage_service: Run, own_database: Connection, tmp_path: Path) -> None:
    await append_traffic(own_database, 100)
    for arguments, why in WRONG.items():
        assert await usage_service(*arguments) == (2, "", f"usage-service: {why}\n")
    file = tmp_path / "types.sql"
    file.write_text(TYPES.replace("FROM event_log", "FROM event_logs"))
    why = f'{file}, line 10: relation "event_logs" does not exist'
    assert await usage_service("projections", "add", str(file)) == (2, "", f"usage-service: {why}\n")
    await fold_all(own_database)
    await assert_as_the_reference(own_database)
    assert not await leftovers(own_database)


async def test_a_file_becomes_a_projection(usage_service: Run, own_database: Connection, tmp_path: Path) -> None:
    await append_traffic(own_database, 100)
    file = tmp_path / "types.sql"
    file.write_text(TYPES, "utf-8-sig")  # as some editors write it
    done = await usage_service("projections", "add", str(file))
    assert done == (0, "types: live, at position 100; its tables are in schema types\n", "")
    assert "types" in (await usage_service("projections"))[1]
    assert "types: as rebuilt at position 100" in (await usage_service("verify"))[1]
    assert await usage_service("projections", "drop", "types") == (0, "types: dropped\n", "")
    assert "types" not in (await usage_service("projections"))[1]


async def test_what_cannot_be_folded_is_told(usage_service: Run, own_database: Connection) -> None:
    await append_traffic(own_database, 100)
    await own_database.execute(FATAL)
    await own_database.execute("UPDATE projections SET position = 101 WHERE name = 'releases'")
    code, out, err = await usage_service("projections", "rebuild", "releases")
    assert (code, out) == (2, "")
    assert err == 'usage-service: releases cannot go on after position 100: relation "versions" does not exist\n'
    listed = (await usage_service("projections"))[2]
    assert "releases (rebuild): cannot go on after position 100 since" in listed
    await own_database.execute(MENDED)
    assert (await usage_service("projections", "rebuild", "releases"))[0] == 0


async def test_what_was_set_aside_is_listed_and_taken_up_again(usage_service: Run, own_database: Connection) -> None:
    await append_traffic(own_database, 100)
    for _ in range(12):
        position = await put_in(own_database, POISONS[5])
    code, out, err = await usage_service("projections", "rebuild", "releases")
    assert (code, err) == (0, "")
    assert out == f"releases: rebuilt and live, at position {position}; without 12 events that cannot be folded\n"
    _, out, err = await usage_service("projections", "--format", "table")
    [line] = [line.split() for line in out.splitlines() if line.split()[:2] == ["releases", "live"]]
    assert line[-2:] == ["12", "aside"]
    assert "releases: without the event at position 101 since" in err
    assert 'invalid input syntax for type integer: "next"\n' in err
    assert "releases: and without 2 more\n" in err
    code, out, err = await usage_service("verify", "releases")
    assert (code, err) == (0, "")
    assert out.startswith(f"releases: as rebuilt at position {position}, but for 12 events set aside\n")
    rows = json.loads((await usage_service("verify", "releases", "--format", "json"))[1])
    assert {(row["projection"], row["equal"], row["set_aside"]) for row in rows} == {("releases", True, 12)}
    assert await usage_service("projections", "retry", "releases") == (
        1,
        "releases: 0 folded, 12 still set aside\n",
        "",
    )
    assert await usage_service("projections", "discard", "releases") == (0, "releases: 12 given up\n", "")
    assert await usage_service("projections", "retry", "releases") == (0, "releases: 0 folded, 0 still set aside\n", "")
    assert "aside" not in (await usage_service("projections"))[1]


async def test_verify_tells_which_rows_differ(usage_service: Run, own_database: Connection) -> None:
    await append_traffic(own_database, 300)
    await fold_all(own_database)
    code, out, err = await usage_service("verify")
    assert (code, err) == (0, "")
    heads = [line for line in out.splitlines() if not line.startswith(" ")]
    assert heads == [f"{name}: as rebuilt at position 300" for name in PROJECTIONS]
    await own_database.execute("INSERT INTO releases VALUES ('fog', 'nightly', 9001, '2026-11-20T12:00:00Z')")
    code, out, err = await usage_service("verify", "releases", "sessions")
    assert (code, err) == (1, "")
    assert "releases: DIFFERS from its rebuild at position 300\n" in out
    assert 'only in live: (fog,nightly,9001,"2026-11-20 12:00:00+00")\n' in out
    assert "sessions: as rebuilt" in out


async def test_an_interrupted_command_is_gone_on_with(own_database: Connection, own_database_url: str) -> None:
    """^C ends it while it waits for the swap; what it filled is there for the next."""
    await append_traffic(own_database, 100)
    await fold_all(own_database)
    command = [sys.executable, "-m", "usage_service", "projections", "rebuild", "sessions"]
    environment = os.environ | {"DATABASE_URL": own_database_url}
    async with own_database.transaction():
        await own_database.execute("LOCK TABLE sessions IN ACCESS SHARE MODE")
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=PIPE, stderr=STDOUT)
        try:

            async def is_filled() -> bool:
                filled = "SELECT EXISTS (SELECT FROM projections WHERE stage = 'rebuild' AND position = 100)"
                return bool(await own_database.fetchval(filled))

            await eventually(is_filled, "it is filled")
            process.send_signal(signal.SIGINT)
            output, _ = await asyncio.wait_for(process.communicate(), 20)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
    assert process.returncode == ExitCode.INTERRUPTED
    assert output.decode().splitlines()[-1].startswith("stopped; what was filled stays: run this again to go on, or")
    again = await asyncio.create_subprocess_exec(*command, env=environment, stdout=PIPE)
    output, _ = await asyncio.wait_for(again.communicate(), 40)
    assert (again.returncode, output) == (0, b"sessions: rebuilt and live, at position 100\n")
    assert not await leftovers(own_database)


async def test_a_database_that_ends_it_is_told(
    usage_service: Run, own_database: Connection, own_database_url: str
) -> None:
    await append_traffic(own_database, 100)
    operator = await connect(own_database_url, application="tests")

    async def end_it() -> bool:
        ended: bool = await operator.fetchval("""
            SELECT coalesce(bool_or(pg_terminate_backend(pid)), false) FROM pg_stat_activity
            WHERE application_name = 'usage-service maintenance' AND query LIKE '%swap_projection%'
              AND datname = current_database()
        """)
        return ended

    try:
        async with own_database.transaction():
            await own_database.execute("LOCK TABLE sessions IN ACCESS SHARE MODE")
            running = asyncio.ensure_future(usage_service("projections", "rebuild", "sessions"))
            await eventually(end_it, "it is ended")
            code, out, err = await running
    finally:
        await operator.close()
    assert (code, out) == (3, "")
    assert "run it again to go on" in err
    assert len(err.splitlines()) == 1
