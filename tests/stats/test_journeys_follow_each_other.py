"""Journeys are what the reference finds in the log: transitions, paths, entries and exits, late events included."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime
from urllib.parse import urlencode
from uuid import UUID

import pytest

from tests.support import reference
from tests.support.reference import Session
from tests.support.servers import Client, Connection, JsonObject, event, post
from tests.support.traffic import append_traffic, fold_all, logged
from usage_service.stats import journeys

SINCE, UNTIL = datetime(2026, 11, 20, 18, tzinfo=UTC), datetime(2026, 11, 23, 6, tzinfo=UTC)
TIME_RANGE = {"since": SINCE.isoformat(), "until": UNTIL.isoformat()}
Steps = list[tuple[str, ...]]


async def answered(client: Client, **parameters: object) -> JsonObject:
    response = await client.get(f"/v1/journeys?{urlencode(TIME_RANGE | parameters)}")
    assert response.status == 200, await response.text()
    return dict(await response.json())


def chosen(log: list[JsonObject], product: str | None, bots: str) -> list[Session]:
    return [
        session
        for session in reference.sessions(log)
        if SINCE <= session.started_at < UNTIL
        and product in (None, *session.products)
        and bots in ("include", "only" if session.bot else "exclude")
    ]


def steps_of(session: Session, log: list[JsonObject], kind: str, product: str | None) -> Steps:
    """Return the steps of a session in their order, without repetitions."""
    own = [
        item
        for item in log
        if item["visitor"] == session.visitor
        and session.started_at <= reference.moment(item) <= session.ended_at
        and (product is None or item["product"] in (None, product))
    ]
    found = [(reference.moment(item), reference.step(item), item["event_id"]) for item in own]
    kinds = ("page", "probe", "tool") if kind == "all" else (kind,)
    ordered = sorted((at, str(step[0]), UUID(key), str(step[1])) for at, step, key in found if step[0] in kinds)
    all_steps = [(step, name) for _at, step, _key, name in ordered]
    steps = [step for place, step in enumerate(all_steps) if not is_page_of_probe(step, all_steps, place)]
    return [step for index, step in enumerate(steps) if index == 0 or step != steps[index - 1]]


def is_page_of_probe(step: tuple[str, str], steps: list[tuple[str, str]], place: int) -> bool:
    """Return whether a step is the page of the probe right before or after it."""
    kind, name = step
    around = steps[max(place - 1, 0) : place] + steps[place + 1 : place + 2]
    return kind == "page" and any(other == "probe" and probe in name.split("/") for other, probe in around)


def ranked(paths: list[Steps], limit: int) -> list[JsonObject]:
    counts = Counter(tuple(path) for path in paths)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], [" ".join(step) for step in item[0]]))[:limit]
    return [
        {
            "steps": [{"kind": kind, "name": name} for kind, name in path],
            "count": count,
            "share": pytest.approx(count / len(paths)),
        }
        for path, count in ordered
    ]


def expected(walks: list[Steps], steps: int, limit: int) -> JsonObject:
    def runs(length: int) -> list[Steps]:
        return [walk[at : at + length] for walk in walks for at in range(len(walk) - length + 1)]

    return {
        "entries": ranked([walk[:1] for walk in walks if walk], limit),
        "exits": ranked([walk[-1:] for walk in walks if walk], limit),
        "transitions": ranked(runs(2), limit),
        "paths": ranked(runs(steps), limit),
    }


ASKED: list[JsonObject] = [
    {},
    {"kind": "page", "steps": 2},
    {"kind": "probe", "steps": 5, "bots": "include"},
    {"product": "fog", "steps": 4, "limit": 7},
]


async def test_journeys_are_those_of_the_reference(client: Client, database: Connection) -> None:
    for _ in range(3):  # later events are of earlier days
        await append_traffic(database, 400)
        await fold_all(database)
    log = await logged(database)
    for asked in ASKED:
        answer = await answered(client, **asked)
        kind, product, limit = asked.get("kind", "all"), asked.get("product"), asked.get("limit", 50)
        sessions = chosen(log, product, asked.get("bots", "exclude"))
        walks = [steps_of(session, log, kind, product) for session in sessions]
        sections = expected(walks, asked.get("steps", 3), limit)
        assert {section: answer[section] for section in sections} == sections
        assert answer["sessions"] == answer["sessions_read"] == len(sessions)
        assert answer["share_of_visitors_read"] == 1


async def test_very_many_sessions_are_a_share_of_the_visitors(
    client: Client, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append_traffic(database, 1_200)
    await fold_all(database)
    log = await logged(database)
    sessions = chosen(log, None, "include")
    wanted = len(sessions) * 2 // 3  # so that never all 20 visitors are beyond it
    monkeypatch.setattr(journeys, "SESSIONS_SAMPLED", wanted)
    sample_key = round(2**32 * wanted / len(sessions))
    sampled = [session for session in sessions if int(UUID(session.visitor).hex[:8], 16) < sample_key]
    answer = await answered(client, bots="include")
    sections = expected([steps_of(session, log, "all", None) for session in sampled], 3, 50)
    assert {section: answer[section] for section in sections} == sections
    assert (answer["sessions"], answer["sessions_read"]) == (len(sessions), len(sampled))
    assert answer["share_of_visitors_read"] == sample_key / 2**32


async def test_a_late_event_comes_between(client: Client, database: Connection) -> None:
    """A step that arrives last but happened in the middle changes what follows what; a pause ends a journey."""
    at = "2026-11-21T12:{:02}:00Z"

    async def walk() -> dict[str, list[str]]:
        await fold_all(database)
        answer = await answered(client, steps=2)
        sections: dict[str, list[str]] = defaultdict(list)
        for section in ("entries", "exits", "paths"):
            sections[section] += [" > ".join(step["name"] for step in path["steps"]) for path in answer[section]]
        return sections

    await post(client, event(occurred_at=at.format(0), data={"page": "/a"}))
    await post(client, event("link_followed", occurred_at=at.format(59), data={"tool": "Looker"}))
    assert await walk() == {"entries": ["/a", "Looker"], "exits": ["/a", "Looker"], "paths": []}
    await post(client, event("probe_viewed", occurred_at=at.format(30)))
    assert (await walk())["entries"] == ["/a", "gc_ms"]
    await post(client, event("control_changed", occurred_at=at.format(15), data={"control": "os"}))
    assert await walk() == {"entries": ["/a"], "exits": ["Looker"], "paths": ["/a > gc_ms", "gc_ms > Looker"]}
    await post(client, event(occurred_at=at.format(30), data={"page": "/b"}))
    assert (await walk())["paths"] == ["/a > /b", "/b > gc_ms", "gc_ms > Looker"]


async def test_an_empty_log_has_no_journeys(client: Client) -> None:
    answer = await answered(client, since="1900-01-01T00:00:00Z", until="3000-01-01T00:00:00Z")
    assert [answer[name] for name in ("sessions", "entries", "exits", "transitions", "paths")] == [0, [], [], [], []]


@pytest.mark.parametrize(("name", "value"), [("steps", 1), ("steps", 6), ("kind", "tool"), ("limit", 0), ("bots", 1)])
async def test_what_is_wrong_is_named(client: Client, name: str, value: object) -> None:
    response = await client.get(f"/v1/journeys?{name}={value}")
    assert response.status == 422
    assert [error["parameter"] for error in (await response.json())["errors"]] == [name]
