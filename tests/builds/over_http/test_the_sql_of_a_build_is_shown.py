"""The SQL that made the rows of a probe is shown: of each build that has rows, and once if it read for several."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from google.cloud.bigquery import ArrayQueryParameter, ScalarQueryParameter
from structlog.testing import capture_logs

from builder.statement_notes import MOST_NOTES, StatementNotes
from tests.support.bad_input import refused
from tests.support.building import asked, bring_to, claim, complete, served, service
from tests.support.pages import NASTY, Pages, answered, shown
from tests.support.servers import connected, drained_projections, post, registered
from usage_service.shared.bigquery.statement import Statement
from usage_service.shared.postgres import open_pool

pytestmark = pytest.mark.asyncio(loop_scope="module")

PARAMETERS = (
    ScalarQueryParameter("run_date", "DATE", "2026-11-29"),
    ArrayQueryParameter("pings", "STRING", ["a", "b"]),
    ScalarQueryParameter("nul", "STRING", "\0"),  # as the builder's own statements have
)


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="pages")
async def some_pages(module_database_url: str) -> AsyncIterator[Pages]:
    async with served(module_database_url) as client, connected(module_database_url) as database:
        await post(client, registered("gc_ms"), registered("slow_ms"))
        await drained_projections(database)
        yield Pages(client, database)


async def flushed(pages: Pages, notes: StatementNotes) -> None:
    """Write the notes with the rights of a builder."""
    url = service(pages.client).settings.database_url
    async with open_pool(url, role="usage_builder", application="tests", size=1) as pool:
        await notes.flush(pool)


async def noted(pages: Pages, sql: str, *builds: UUID) -> None:
    notes = StatementNotes()
    notes.note(builds, Statement("probe", sql, PARAMETERS))
    await flushed(pages, notes)


async def built_again(pages: Pages, sql: str) -> UUID:
    """Build gc_ms once more, on another day, and return the build's id."""
    await pages.database.execute("UPDATE builds SET finished_at = finished_at - interval '2 days'")
    service(pages.client).fresh.forget()
    build = await asked(pages.client)
    attempt = await claim(pages.database, build)
    await noted(pages, sql, build)
    await pages.database.execute("DELETE FROM probe_rows WHERE probe = 'gc_ms'")
    await complete(pages.database, build, attempt)
    return build


async def test_the_newest_rows_tell_how_they_were_made(pages: Pages) -> None:
    sql = f"SELECT '{NASTY}' AS one"
    first = await built_again(pages, sql)
    told = await answered(pages.client, f"/v1/builds/{first}/statement")
    assert (told["sql"], told["bytes"], told["probe"], told["is_shared"]) == (sql, 1000, "gc_ms", False)
    assert [one["name"] for one in told["parameters"]] == ["run_date", "pings", "nul"]
    page = await shown(pages.client, "/probes/fog/gc_ms?product=fog")
    [details] = [one for one in page.all("details") if "data-loads" in one.attributes]
    section = await shown(pages.client, details.attributes["data-loads"] or "")
    assert section.all("pre")[0].text == sql
    assert [one.text for one in section.all("li")] == ["@run_date: 2026-11-29", "@pings: a, b", r"@nul: \u0000"]
    await built_again(pages, "SELECT 2")
    third = await built_again(pages, "SELECT 3")
    assert (await answered(pages.client, f"/v1/builds/{third}/statement"))["sql"] == "SELECT 3"
    await refused(await pages.client.get(f"/v1/builds/{first}/statement"), 404)
    kept = await pages.database.fetchval("SELECT count(*) FROM statements")
    assert kept == await pages.database.fetchval("SELECT count(DISTINCT digest) FROM build_statements") <= 2


async def test_a_statement_of_several_builds_is_kept_once(pages: Pages) -> None:
    build = await asked(pages.client, "slow_ms")
    await bring_to(pages.database, build, "progressed")
    before = await pages.database.fetchval("SELECT count(*) FROM statements")
    for _ in range(2):
        await noted(pages, "SELECT together", build, uuid4())
    assert await pages.database.fetchval("SELECT count(*) FROM statements") == before + 1
    assert (await answered(pages.client, f"/v1/builds/{build}/statement"))["bytes"] == 1000


async def test_what_is_not_known_is_said(pages: Pages) -> None:
    assert (await refused(await pages.client.get(f"/v1/builds/{uuid4()}/statement"), 404))["title"] == "No such build"
    await pages.database.execute("DELETE FROM build_statements")
    build = await pages.database.fetchval("SELECT build_id FROM builds LIMIT 1")
    assert (await refused(await pages.client.get(f"/v1/builds/{build}/statement"), 404))[
        "title"
    ] == "Statement not known"


async def test_a_builder_may_note_and_nobody_else(pages: Pages) -> None:
    allowed = "SELECT has_function_privilege($1, 'note_statement(uuid[], text, jsonb)', 'EXECUTE')"
    roles = ("usage_builder", "usage_server", "usage_reader", "usage_projections")
    assert [await pages.database.fetchval(allowed, role) for role in roles] == [True, False, False, False]


async def test_a_note_that_the_database_refuses_ends_nothing(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = "SELECT no_such_function($1::uuid[], $2::text, $3::text)"
    monkeypatch.setattr("builder.statement_notes.query", lambda *_: unknown)
    await noted(pages, "SELECT 1", await pages.database.fetchval("SELECT build_id FROM builds LIMIT 1"))


async def test_a_note_that_the_database_refuses_takes_no_other_with_it(pages: Pages) -> None:
    build = await asked(pages.client, "slow_ms")
    notes = StatementNotes()
    notes.note([build], Statement("probe", "SELECT refused", (ScalarQueryParameter("half", "STRING", "\ud800"),)))
    notes.note([build], Statement("probe", "SELECT taken", PARAMETERS))
    with capture_logs() as logged:
        await flushed(pages, notes)
    assert [line["event"] for line in logged] == ["statement_refused"]
    assert (await answered(pages.client, f"/v1/builds/{build}/statement"))["sql"] == "SELECT taken"


async def test_notes_are_bounded_and_the_newest_stay(pages: Pages) -> None:
    notes = StatementNotes()
    build = await pages.database.fetchval("SELECT build_id FROM builds LIMIT 1")
    for number in range(MOST_NOTES + 5):
        notes.note([build] if number > MOST_NOTES else [], Statement("probe", f"SELECT {number}", ()))
    await flushed(pages, notes)
    assert (await answered(pages.client, f"/v1/builds/{build}/statement"))["sql"] == f"SELECT {MOST_NOTES + 4}"
