"""Answers that read the log beside projections say what they are without once old events left, and are not kept."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlencode

import pytest

from tests.conftest import SECRET, Start
from tests.support.servers import Client, Connection, JsonObject, event, post
from tests.support.traffic import append_traffic, fold_all, ignore
from usage_service.retention import PositionRange, drop_old, put_back
from usage_service.shared.settings import ServerSettings

OLD = PositionRange(1, 200)
# A day after the first event that is kept was recorded: later ones that occurred before may be among those dropped.
BEGINS = "2026-11-25T00:00:00Z"
DAYS = {"since": "2026-11-20", "until": "2026-11-28"}
FUNNEL = "/v1/funnel?" + urlencode(DAYS)
REMEMBERED = "/v1/funnel?" + urlencode(DAYS | {"step": ["page_viewed", "probe_viewed:gc_ms"]}, doseq=True)
MARKS = "/v1/releases/impact?type=x_mine"

PARTLY_OLD = """
SELECT s.visitor, s.started_at, s.events, old.events FROM sessions s CROSS JOIN LATERAL (
    SELECT count(*) AS events FROM journey_events j JOIN event_log e USING (event_id)
    WHERE j.visitor = s.visitor AND j.occurred_at BETWEEN s.started_at AND s.ended_at AND e.position <= $1
) old WHERE old.events > 0 AND old.events < s.events LIMIT 1
"""


class Answer(NamedTuple):
    """Body of an answer, and its entity tag."""

    body: JsonObject
    tag: str


async def answered(client: Client, path: str) -> Answer:
    response = await client.get(path)
    assert response.status == 200, await response.text()
    return Answer(dict(await response.json()), response.headers["ETag"])


@pytest.fixture
async def client(own_database: Connection, own_database_url: str, start: Start) -> Client:
    """Serve what was recorded on two days, and what somebody did after the log begins."""
    for now in ("2026-11-22T12:00:00Z", "2026-11-24T00:00:00Z"):
        await own_database.execute(f"SET usage.now = '{now}'")
        await append_traffic(own_database, OLD.last)
    await own_database.execute("RESET usage.now")
    client = await start(ServerSettings(database_url=own_database_url, visitor_secret=SECRET))
    later = [
        event(kind, occurred_at=f"2026-11-26T12:0{minute}:00Z", data=data)
        for minute, (kind, data) in enumerate(
            [("probe_searched", {"query": "gc", "results": 3}), ("probe_viewed", {"found": True})]
        )
    ]
    await post(client, *later)
    await fold_all(own_database)
    return client


async def test_a_funnel_leaves_out_the_sessions_whose_events_may_be_gone(
    client: Client, own_database_url: str, tmp_path: Path
) -> None:
    whole, remembered = await answered(client, FUNNEL), await answered(client, REMEMBERED)
    assert whole.body["log_begins"] is None
    assert whole.body["sessions"] > 20
    path = Path((await drop_old(own_database_url, OLD, tmp_path, ignore)).place)
    rest = await answered(client, FUNNEL)
    assert (rest.body["log_begins"], rest.body["sessions"]) == (BEGINS, 1)
    assert [step["share"] for step in rest.body["steps"]] == [1, 1, 0, 0]
    assert (await answered(client, REMEMBERED)).body == remembered.body
    await put_back(own_database_url, path, ignore)
    assert (await answered(client, FUNNEL)).body == whole.body


async def test_a_timeline_tells_how_many_events_were_dropped(
    client: Client, own_database: Connection, own_database_url: str, tmp_path: Path
) -> None:
    [(visitor, started_at, events, old)] = await own_database.fetch(PARTLY_OLD, OLD.last)
    address = f"/v1/sessions/{visitor}/{quote(started_at.isoformat())}"
    whole = await answered(client, address)
    assert (whole.body["dropped"], len(whole.body["timeline"])) == (0, events)
    path = Path((await drop_old(own_database_url, OLD, tmp_path, ignore)).place)
    rest = await answered(client, address)
    assert rest.tag != whole.tag
    assert (rest.body["dropped"], len(rest.body["timeline"])) == (old, events - old)
    page = await (await client.get(address.removeprefix("/v1"))).text()
    assert f"{old} of the events were dropped from the log" in page
    await put_back(own_database_url, path, ignore)
    assert (await answered(client, address)).body == whole.body


async def test_marks_say_from_when_on_they_are_all_there(client: Client, own_database_url: str, tmp_path: Path) -> None:
    assert (await answered(client, MARKS)).body["log_begins"] is None
    await drop_old(own_database_url, OLD, tmp_path, ignore)
    assert (await answered(client, MARKS)).body["log_begins"] == BEGINS
    assert (await answered(client, "/v1/releases/impact")).body["log_begins"] is None
