"""Within an epoch a person is one visitor; after erasure, or after the epoch, nothing leads from them to their events.

Not for those either who know the secret and the raw id: they could make every keyed hash there ever was.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiohttp import ClientSession
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.conftest import SECRET, Start
from tests.support.chaos import client_session, running_servers
from tests.support.request_forms import JSON
from tests.support.servers import Client, Connection, JsonObject, event, eventually, post, rounds
from usage_service.ingest import visitors as forgetting
from usage_service.ingest.visitors import VisitorKeys
from usage_service.shared.settings import ServerSettings
from usage_service.web.api import events as route

HASHES = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}(?:[0-9a-f]{32})?")
PLAIN_HASHES = ["md5", "sha1", "sha256", "blake2b", "blake2s"]


class Clock(datetime):
    """The service's clock."""

    ahead = timedelta(0)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        """Return the time, moved on by the offset."""
        return super().now(tz) + cls.ahead


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    """Move the service's clock on."""
    monkeypatch.setattr(route, "datetime", Clock)
    monkeypatch.setattr(forgetting, "datetime", Clock)
    monkeypatch.setattr(Clock, "ahead", timedelta(0))
    return lambda by: monkeypatch.setattr(Clock, "ahead", by)


def erased(raw: str) -> JsonObject:
    return event("visitor_erased", visitor=raw, product=None, data={}, occurred_at=datetime.now(UTC).isoformat())


async def pseudonym(database: Connection, event_id: str) -> UUID:
    found: UUID | None = await database.fetchval("SELECT visitor FROM event_log WHERE event_id = $1::uuid", event_id)
    assert found is not None
    return found


async def view(client: Client, database: Connection, raw: str) -> UUID:
    """Post an event of a person, and return its pseudonym."""
    [item] = await post(client, event(visitor=raw))
    return await pseudonym(database, item["event_id"])


async def links(database: Connection) -> int:
    return int(await database.fetchval("SELECT count(*) FROM visitor_keys"))


async def dump(database: asyncpg.Connection[asyncpg.Record]) -> str:
    """Return every row of every table, as text."""
    pieces: list[bytes] = []

    async def collect(piece: bytes) -> None:
        pieces.append(piece)

    for row in await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        await database.copy_from_table(row["tablename"], output=collect)
    return b"".join(pieces).decode()


def derivable(raw: str) -> set[str]:
    """Return all values that can be computed from a raw id, with and without the secret, for any epoch."""
    keyed = []
    for day in range(datetime.now(UTC).toordinal() - datetime(1970, 1, 1, tzinfo=UTC).toordinal() + 400):
        key = hmac.digest(SECRET.encode(), f"visitors of epoch {day}".encode(), "sha256")
        keyed.append(hmac.digest(key, raw.encode(), "sha256").hex())
    keyed.append(hmac.digest(SECRET.encode(), raw.encode(), "sha256").hex())
    plain = [hashlib.new(name, raw.encode()).hexdigest() for name in PLAIN_HASHES]
    plain.append(hashlib.blake2b(raw.encode(), digest_size=16).hexdigest())
    return {digest[:length] for digest in (*keyed, *plain) for length in (32, 64)}


def leads_back(text: str, raw: str) -> bool:
    """Return whether the raw id, or anything computed from it, is in the text."""
    held = {match.replace("-", "") for match in HASHES.findall(text)}
    return raw in text or bool(held & derivable(raw))


async def test_a_link_would_be_found(client: Client, database: Connection) -> None:
    """The test of the tests below: before erasure there is something to be found."""
    raw = f"raw-{uuid4()}"
    await post(client, event(visitor=raw))
    assert leads_back(await dump(database), raw)
    assert not leads_back(await dump(database), f"raw-{uuid4()}")


@examples(
    max_examples=rounds(6),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    raws=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256), min_size=2, max_size=6)
)
async def test_within_an_epoch_the_same_person_is_the_same_visitor(
    client: Client, database: Connection, raws: list[str]
) -> None:
    """And two persons are two, however much their ids look alike."""
    made = [event(visitor=raw) for raw in (*raws, *reversed(raws))]
    await post(client, *made[:1])
    await post(client, *made)
    of = [await pseudonym(database, item["event_id"]) for item in made]
    assert of[: len(raws)] == of[len(raws) :][::-1]
    assert len(set(of)) == len(set(raws))


async def test_in_another_epoch_the_same_person_is_another_visitor(
    client: Client, database: Connection, settings: ServerSettings, later: Callable[[timedelta], None]
) -> None:
    raw, days = f"raw-{uuid4()}", timedelta(days=settings.visitor_rotation_days)
    first = await view(client, database, raw)
    later(days)
    second = await view(client, database, raw)
    later(2 * days)
    third = await view(client, database, raw)
    assert len({first, second, third, await view(client, database, raw)}) == 3


async def test_at_the_end_of_an_epoch_nothing_leads_back(
    start: Start, settings: ServerSettings, database: Connection, later: Callable[[timedelta], None]
) -> None:
    raw, client = f"raw-{uuid4()}", await start(settings)
    old = event(visitor=raw)
    await post(client, old)
    first = await pseudonym(database, old["event_id"])
    later(timedelta(days=settings.visitor_rotation_days))
    another = await start(settings)
    await eventually(lambda: forgotten(database), "the keys of the epoch that is over are gone")
    assert not leads_back(await dump(database), raw)
    [again] = await post(another, old)
    assert again["status"] == "duplicate"
    assert not leads_back(await dump(database), raw)
    assert await view(another, database, raw) != first


async def forgotten(database: Connection) -> bool:
    return await links(database) == 0


async def test_the_keys_of_the_epoch_that_lasts_are_kept(
    start: Start, settings: ServerSettings, database: Connection
) -> None:
    first = await view(await start(settings), database, "ann")
    assert await database.fetchval("SELECT forget_visitors($1)", current_epoch(settings)) == 0
    assert await view(await start(settings), database, "ann") == first


def current_epoch(settings: ServerSettings) -> int:
    return VisitorKeys(settings.visitor_secret, settings.visitor_rotation_days).epoch(datetime.now(UTC))


async def test_a_repeat_after_erasure_makes_no_new_link(client: Client, database: Connection) -> None:
    raw = f"raw-{uuid4()}"
    old = [event(visitor=raw) for _ in range(3)]
    await post(client, *old)
    first = await pseudonym(database, old[0]["event_id"])
    await post(client, erased(raw))
    for repeat in ([old[0]], old, [*old, event(visitor="another")]):
        await post(client, *repeat)
        assert not leads_back(await dump(database), raw)
    second = await view(client, database, raw)
    assert second != first
    assert await view(client, database, raw) == second
    assert await pseudonym(database, old[0]["event_id"]) == first


async def test_what_is_not_recorded_erases_nobody(client: Client, database: Connection) -> None:
    """An erasure that is sent again, or under the id of another event."""
    await view(client, database, "ann")
    request, others = erased("ann"), event(visitor="bob")
    await post(client, request, others)
    since = await view(client, database, "ann")
    assert (await post(client, request))[0]["status"] == "duplicate"
    answer = await client.post("/v1/events", json=[erased("ann") | {"event_id": others["event_id"]}])
    assert [item["status"] for item in (await answer.json())["events"]] == ["conflict"]
    both = [erased("cleo"), erased("ann")]
    both[1]["event_id"] = both[0]["event_id"]
    answer = await client.post("/v1/events", json=both)
    assert [item["status"] for item in (await answer.json())["events"]] == ["recorded", "conflict"]
    assert await view(client, database, "ann") == since


async def test_who_knows_when_somebody_asked_does_not_find_them(client: Client, database: Connection) -> None:
    """The event that erases them has no name: not in the log, not for who reads or filters it, not in an export."""
    ann, request = await view(client, database, "ann"), erased("ann")
    await post(client, event("x_mine", visitor="bob", data={}), request)
    assert (await post(client, request))[0]["status"] == "duplicate"
    assert await database.fetchval("SELECT array_agg(visitor) FROM event_log WHERE type = 'visitor_erased'") == [None]
    lines = (await (await client.get("/v1/events", params={"type": "visitor_erased"})).read()).splitlines()
    assert [json.loads(line)["visitor"] for line in lines] == [None]
    of_ann = (await (await client.get("/v1/events", params={"visitor": str(ann)})).read()).splitlines()
    assert [json.loads(line)["type"] for line in of_ann] == ["page_viewed"]


async def test_erasing_one_person_leaves_the_others(client: Client, database: Connection) -> None:
    before = await view(client, database, "ann")
    await view(client, database, "bob")
    await post(client, erased("bob"), erased("nobody ever heard of"))
    assert await view(client, database, "ann") == before
    assert await links(database) == 1


async def test_events_and_erasure_in_one_request_leave_no_link(client: Client, database: Connection) -> None:
    raw = f"raw-{uuid4()}"
    await post(client, event(visitor=raw), erased(raw))
    assert not leads_back(await dump(database), raw)


async def test_what_follows_an_erasure_in_the_same_request_is_a_new_visitors(
    client: Client, database: Connection
) -> None:
    before = await view(client, database, "ann")
    bob = await view(client, database, "bob")
    made = [event(visitor="ann"), erased("bob"), erased("ann"), event(visitor="ann"), event(visitor="bob")]
    made += [erased("ann"), event(visitor="ann")]
    items = await post(client, *made)
    assert [item["position"] for item in items] == list(range(3, 10))
    of = [await pseudonym(database, made[index]["event_id"]) for index in (0, 3, 6)]
    assert of[0] == before
    assert len(set(of)) == 3
    assert await view(client, database, "ann") == of[2]
    assert await view(client, database, "bob") == await pseudonym(database, made[4]["event_id"]) != bob


async def test_erasure_reaches_the_epoch_before_too(
    client: Client, database: Connection, settings: ServerSettings, later: Callable[[timedelta], None]
) -> None:
    """An epoch's keys are deleted within the hour after its end; nobody has to wait for that to be forgotten."""
    raw = f"raw-{uuid4()}"
    await view(client, database, raw)
    later(timedelta(days=settings.visitor_rotation_days))
    await view(client, database, raw)
    await post(client, erased(raw))
    assert not leads_back(await dump(database), raw)


WRONG: list[Callable[[str], JsonObject]] = [
    lambda raw: event(visitor=raw * 20),
    lambda raw: event(visitor=[raw]),
    lambda raw: event(visitor={"id": raw}),
    lambda raw: event(visitor=raw, data=None),
    lambda raw: event("build_started", visitor=raw),
    lambda raw: event(visitor=raw, occurred_at="3000-01-01T00:00:00Z"),
    lambda raw: event("x_poison", visitor=raw, data={}),
    lambda raw: erased(raw) | {"data": {"visitor": 1}},
]


async def complain(session: ClientSession, url: str, raw: str) -> str:
    """Post events of one person that are refused, and return the service's answers."""
    said = []
    for wrong in WRONG:
        made = wrong(raw) | {"event_id": str(uuid4())}
        bodies = [json.dumps([made]), json.dumps([made])[:-3], json.dumps({"visitor": raw}), json.dumps(raw)]
        for body in bodies:
            async with session.post(f"{url}/v1/events", data=body, headers=JSON) as response:
                said.append(await response.text())
                assert 400 <= response.status < 500, said[-1]
    return "\n".join(said)


async def test_neither_tables_nor_logs_nor_answers_lead_back(
    database_url: str, database: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    raw = f"raw-{uuid4()}"
    await database.execute("ALTER TABLE event_log ADD CONSTRAINT no_poison CHECK (type <> 'x_poison')")
    try:
        async with client_session() as session, running_servers(database_url, tmp_path, 1, session) as [server]:
            said = await complain(session, server.url, raw)
            for batch in ([event(visitor=raw), event("probe_viewed", visitor=raw)], [erased(raw)]):
                async with session.post(f"{server.url}/v1/events", json=batch) as response:
                    assert response.status == 201
                    said += await response.text()
            await eventually(lambda: folded(database), "the projections have seen it all")
            tables = await dump(database)
    finally:
        await database.execute("ALTER TABLE event_log DROP CONSTRAINT no_poison")
    logs = server.log_path.read_text()
    assert "event_refused_by_database" in logs
    assert not [text for text in (tables, logs, said) if leads_back(text, raw)]
    assert SECRET not in logs + said + tables


async def folded(database: Connection) -> bool:
    return bool(await database.fetchval("SELECT bool_and(position = last_position()) FROM projections"))


async def test_a_repeat_in_the_same_request_links_nobody(client: Client, database: Connection) -> None:
    """Only whoever has an event in the log has a row that leads to a pseudonym."""
    once = event(visitor="the first")
    await post(client, once, once | {"visitor": "somebody else"})
    assert await database.fetchval("SELECT count(*) FROM visitor_keys") == 1
