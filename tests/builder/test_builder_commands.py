"""The commands `probe-builder failed` and `retry`, of builds that failed for good, and `run` with its concurrency."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
from uuid import UUID, uuid4

import pytest
from typer.testing import CliRunner, Result

from builder import cli
from builder.builds import Aggregate
from builder.commands import running
from builder.settings import BuilderSettings
from tests.support.builders import put_in_catalogue, request
from tests.support.servers import Connection


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """Return a runner of commands on the test's database."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setattr("usage_service.shared.commands.configure_logs", lambda *_: None)  # would outlive the terminal
    for name in [name for name in os.environ if name.startswith("PROBE_BUILDER_")]:
        monkeypatch.delenv(name)
    return CliRunner()


async def called(run: CliRunner, *words: str) -> Result:
    """Run a command in a thread, because it has an event loop of its own."""
    return await asyncio.to_thread(run.invoke, cli.make_app(), list(words))


async def fail(database: Connection, probe: str) -> UUID:
    """Create a build of the probe that has failed for good, and return its id."""
    build_id = await request(database, probe)
    claimed = await database.fetchval("SELECT attempt FROM claim_build('w', '15 s')")
    await database.execute("SELECT fail_build($1, $2, 'invalidQuery', $3)", build_id, claimed, "no such\ncolumn")
    return build_id


@pytest.fixture
async def failed(database: Connection) -> list[UUID]:
    await put_in_catalogue(database, "gc_ms", "slow_ms")
    return [await fail(database, "gc_ms"), await fail(database, "slow_ms")]


async def test_what_failed_is_listed_a_line_each(run: CliRunner, failed: list[UUID]) -> None:
    result = await called(run, "failed")
    assert result.exit_code == 0
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(row["build_id"], row["probe"]) for row in rows] == [(str(failed[1]), "slow_ms"), (str(failed[0]), "gc_ms")]
    assert {(row["attempt"], row["code"], row["message"]) for row in rows} == {("1", "invalidQuery", "no such\ncolumn")}


async def test_what_was_asked_for_again_is_listed_no_more(
    run: CliRunner, database: Connection, failed: list[UUID]
) -> None:
    await request(database, "gc_ms")
    listed = json.loads((await called(run, "failed", "--format", "json")).stdout)
    assert [build["build_id"] for build in listed] == [str(failed[1])]


async def test_failed_builds_are_queued_again(run: CliRunner, database: Connection, failed: list[UUID]) -> None:
    result = await called(run, "retry", "--all")
    assert (result.exit_code, result.stderr) == (0, "")
    assert sorted(result.stdout.splitlines()[1:]) == sorted(f"{build_id},queued" for build_id in failed)
    assert await database.fetchval("SELECT array_agg(DISTINCT state) FROM builds") == ["queued"]
    assert len((await called(run, "failed")).stdout.splitlines()) == 1  # the names of the columns
    assert (await called(run, "retry", "--all")).exit_code == 0


async def test_what_cannot_be_is_said_a_line_each(run: CliRunner, database: Connection, failed: list[UUID]) -> None:
    unknown = uuid4()
    pending = await request(database, "gc_ms")
    result = await called(run, "retry", str(failed[0]), str(failed[1]), str(pending), str(unknown))
    assert result.exit_code == 1
    outcomes = dict(line.split(",") for line in result.stdout.splitlines()[1:])
    expected = {failed[0]: "under_way", failed[1]: "queued", pending: "not_failed", unknown: "unknown"}
    assert outcomes == {str(build_id): outcome for build_id, outcome in expected.items()}


@pytest.mark.parametrize("words", [["retry"], ["retry", "--all", str(uuid4())], ["retry", "not-an-id"]])
async def test_nothing_is_guessed(run: CliRunner, words: list[str]) -> None:
    assert (await called(run, *words)).exit_code == 2


@pytest.mark.parametrize(("words", "expected"), [([], 3), (["--concurrency", "7"], 7)])
async def test_the_option_goes_over_the_setting(
    run: CliRunner, monkeypatch: pytest.MonkeyPatch, words: list[str], expected: int
) -> None:
    seen: list[int] = []

    async def run_builder(settings: BuilderSettings, aggregate: Aggregate) -> bool:
        seen.append(settings.concurrency)
        return True

    monkeypatch.setattr(running, "run_builder", run_builder)
    monkeypatch.setenv("PROBE_BUILDER_CONCURRENCY", "3")
    monkeypatch.setenv("PROBE_BUILDER_WAREHOUSE_URL", "http://127.0.0.1:9")
    assert (await called(run, "run", *words)).exit_code == 0
    assert seen == [expected]
    assert (await called(run, "run", "--concurrency", "0")).exit_code == 2


def test_a_database_that_is_away_is_one_line(
    run: CliRunner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:9/nothing")
    monkeypatch.setattr("sys.argv", ["probe-builder", "failed"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 3
    assert "DATABASE_URL did not answer" in capsys.readouterr().err
