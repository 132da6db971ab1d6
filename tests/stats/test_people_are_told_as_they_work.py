"""What is told of how people work is what plain Python finds: a typical session, a funnel, and who comes back."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, date, datetime, timedelta
from statistics import median
from urllib.parse import urlencode
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import reference
from tests.support.reference import Session
from tests.support.servers import Client, Connection, JsonObject, event, post
from tests.support.traffic import append_traffic, fold_all, logged
from usage_service.stats import funnel, returning
from usage_service.stats.funnel import DEFAULT_STEPS, times_of_steps
from usage_service.stats.returning import whole_weeks

SINCE, UNTIL = datetime(2026, 11, 20, 18, tzinfo=UTC), datetime(2026, 11, 23, 6, tzinfo=UTC)
TIME_RANGE = {"since": SINCE.isoformat(), "until": UNTIL.isoformat()}
BEGIN = datetime(2026, 11, 20, tzinfo=UTC)
WEEK = timedelta(weeks=1)
MEASURES = ("seconds", "events", "probes", "controls")


async def answered(client: Client, path: str, **parameters: object) -> JsonObject:
    response = await client.get(f"{path}?{urlencode(parameters, doseq=True)}")
    assert response.status == 200, await response.text()
    return dict(await response.json())


def chosen(
    log: list[JsonObject], product: str | None, since: datetime = SINCE, until: datetime = UNTIL
) -> list[Session]:
    return [
        session
        for session in reference.sessions(log)
        if since <= session.started_at < until and product in (None, *session.products) and not session.bot
    ]


async def test_following_next_lists_every_session_once_latest_first(client: Client, database: Connection) -> None:
    await append_traffic(database, 400)
    await fold_all(database)
    expected = sorted(chosen(await logged(database), None), key=lambda one: (-one.started_at.timestamp(), one.visitor))
    page = await answered(client, "/v1/sessions", limit=7, **TIME_RANGE)
    listed = list(page["sessions"])
    while page["next"]:
        assert len(page["sessions"]) == 7
        page = await (await client.get(page["next"])).json()
        assert page["total"] == len(expected)
        listed += page["sessions"]
    assert len(expected) > 14
    assert [(one["started_at"], one["visitor"]) for one in listed] == [
        (one.started_at.isoformat().replace("+00:00", "Z"), one.visitor) for one in expected
    ]


def named(item: JsonObject) -> set[str]:
    """Return the steps that an event is."""
    name = {"probe_viewed": item["probe"], "page_viewed": item["data"].get("page"),
            "link_followed": item["data"].get("tool"), "control_changed": item["data"].get("control")}  # fmt: skip
    return {item["type"], f"{item['type']}:{name.get(item['type'])}"}


def reached(session: Session, log: list[JsonObject], steps: list[str], product: str | None) -> list[datetime]:
    """Return when the first steps were taken, by walking through the events of the session in their order."""
    own = [
        item
        for item in log
        if item["visitor"] == session.visitor
        and session.started_at <= reference.moment(item) <= session.ended_at
        and product in (None, item["product"] or product)
        and reference.is_of_a_session(item)
    ]
    found: list[datetime] = []
    for item in sorted(own, key=lambda one: (reference.moment(one), UUID(one["event_id"]))):
        if len(found) < len(steps) and steps[len(found)] in named(item):
            found.append(reference.moment(item))
    return found


@pytest.mark.parametrize(
    ("product", "steps"),
    [
        (None, ["probe_viewed", "control_changed", "link_followed"]),
        ("fog", ["page_viewed", "probe_viewed:gc_ms", "probe_viewed"]),
        (None, ["x_mine", "control_changed:slow_ms", "x_mine", "link_followed:gc_ms"]),
        ("fog", []),
    ],
)
async def test_a_funnel_is_that_of_the_reference(
    client: Client, database: Connection, product: str | None, steps: list[str]
) -> None:
    await append_traffic(database, 1_000)
    await fold_all(database)
    log = await logged(database)
    answer = await answered(client, "/v1/funnel", **TIME_RANGE, step=steps, **({"product": product} if product else {}))
    sessions = chosen(log, product)
    assert answer["sessions"] == answer["sessions_read"] == len(sessions) > 20
    steps = steps or list(DEFAULT_STEPS)
    walks = [reached(session, log, steps, product) for session in sessions]
    counts = [sum(len(walk) > place for walk in walks) for place in range(len(steps))]
    assert [(step["step"], step["sessions"]) for step in answer["steps"]] == list(zip(steps, counts, strict=True))
    for place, step in enumerate(answer["steps"]):
        before = counts[place - 1] if place else len(sessions)
        waits = [(walk[place] - walk[place - 1]).total_seconds() for walk in walks if place and len(walk) > place]
        assert step["share"] == pytest.approx(counts[place] / len(sessions), abs=1e-6)
        assert step["share_of_previous"] == pytest.approx(counts[place] / max(before, 1), abs=1e-6)
        assert step["median_seconds"] == (median(waits) if waits else None)


@given(st.lists(st.integers(0, 7), max_size=8))
def test_no_other_choice_of_events_gets_further(masks: list[int]) -> None:
    times = [BEGIN + timedelta(seconds=place) for place in range(len(masks))]
    best = max(
        (
            length
            for length in range(4)
            for places in itertools.combinations(range(len(masks)), length)
            if all(masks[place] >> step & 1 for step, place in enumerate(places))
        ),
    )
    found = times_of_steps(masks, times, 3)
    assert len(found) == best
    assert found == sorted(set(found))


async def test_very_many_sessions_are_a_share_in_a_funnel_too(
    client: Client, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append_traffic(database, 800)
    await fold_all(database)
    sessions = chosen(await logged(database), None)
    wanted = len(sessions) * 2 // 3  # so that never all 20 visitors are beyond it
    monkeypatch.setattr(funnel, "SESSIONS_SAMPLED", wanted)
    sample_key = 2**32 * wanted // len(sessions)
    sampled = [session for session in sessions if int(UUID(session.visitor).hex[:8], 16) < sample_key]
    answer = await answered(client, "/v1/funnel", **TIME_RANGE, step=["probe_viewed"])
    assert (answer["sessions"], answer["sessions_read"]) == (len(sessions), len(sampled))
    assert answer["share_of_visitors_read"] == pytest.approx(wanted / len(sessions), abs=1e-6)
    assert answer["steps"][0]["sessions"] == sum(bool(session.probes) for session in sampled)


@pytest.mark.parametrize("step", ["probe_registered", "viewed", "x_", "probe_viewed:", "control_changed:os\n"])
async def test_a_step_that_nobody_can_take_is_named(client: Client, step: str) -> None:
    response = await client.get(f"/v1/funnel?{urlencode({'step': step})}")
    assert response.status == 422
    assert [error["parameter"] for error in (await response.json())["errors"]] == ["step"]


def measured(session: Session) -> dict[str, float]:
    seconds = (session.ended_at - session.started_at).total_seconds()
    names = {name: len(getattr(session, name)) for name in ("probes", "controls")}
    return {"seconds": seconds, "events": session.events, **names}


@pytest.mark.parametrize("product", [None, "fog"])
async def test_the_example_is_the_session_nearest_to_the_medians(
    client: Client, database: Connection, product: str | None
) -> None:
    await append_traffic(database, 1_000)
    await fold_all(database)
    log = await logged(database)
    sessions = chosen(log, product)
    medians = {
        name: sorted(measured(session)[name] for session in sessions)[math.ceil(len(sessions) / 2) - 1]
        for name in MEASURES
    }

    def distance(session: Session) -> float:
        return sum(abs(math.log((value + 1) / (medians[name] + 1))) for name, value in measured(session).items())

    answer = await answered(
        client, "/v1/sessions/typical", **TIME_RANGE, limit=2, **({"product": product} if product else {})
    )
    found = answer["session"]
    [own] = [
        session
        for session in sessions
        if session.visitor == found["visitor"] and session.started_at == datetime.fromisoformat(found["started_at"])
    ]
    assert distance(own) == pytest.approx(min(map(distance, sessions)))
    assert len(answer["timeline"]) == min(2, found["events"])


async def test_without_a_session_there_is_no_example(client: Client) -> None:
    answer = await answered(client, "/v1/sessions/typical", **TIME_RANGE)
    assert (answer["session"], answer["timeline"]) == (None, [])


def monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


async def test_who_comes_back_is_who_has_a_session_in_a_later_week(client: Client, database: Connection) -> None:
    first = datetime(2026, 9, 28, 12, tzinfo=UTC)  # a Monday
    weeks_of = {"ann": (0, 1, 2), "bob": (0, 2), "cyd": (1, 2), "dan": (0,), "eve": (2,)}
    views = [
        event(occurred_at=(first + week * WEEK + timedelta(hours=hour)).isoformat(), visitor=name)
        for name, weeks in weeks_of.items()
        for week in weeks
        for hour in (0, 3)
    ]
    bots = [event(occurred_at=(first + week * WEEK).isoformat(), visitor="bot", data={"page": "/", "bot": True})
            for week in (0, 1)]  # fmt: skip
    await post(client, *views, *bots)
    await fold_all(database)
    log = await logged(database)
    answer = await answered(client, "/v1/returning", since="2026-09-30", until="2026-10-13", product="fog")
    assert (answer["since"][:10], answer["until"][:10]) == ("2026-09-28", "2026-10-19")
    came: dict[date, set[str]] = {}
    for session in chosen(log, "fog", first - WEEK, first + 9 * WEEK):
        came.setdefault(monday(session.started_at.date()), set()).add(session.visitor)
    mondays = sorted(came)
    expected = [
        (str(week), len(came[week]), [len(came[week] & came[later]) for later in mondays[place + 1 :]])
        for place, week in enumerate(mondays)
    ]
    assert expected[0][1:] == (3, [1, 2])
    found = [
        (week["start"][:10], week["visitors"], [again["visitors"] for again in week["came_again"]])
        for week in answer["weeks"]
    ]
    assert found == expected
    assert answer["after_a_week"] == pytest.approx((1 + 2) / (3 + 2), abs=1e-6)


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2026, 12, 1), timezones=st.just(UTC)),
    st.one_of(st.none(), st.timedeltas(timedelta(hours=1), timedelta(days=400))),
)
def test_only_weeks_that_are_over_are_told(now: datetime, back: timedelta | None) -> None:
    weeks = whole_weeks(now - back if back else None, None, now)
    assert weeks.until <= now < weeks.until + WEEK
    assert not (weeks.until - weeks.since) % WEEK
    assert weeks.since.weekday() == 0


async def test_very_many_visitors_are_a_share_of_those_who_come_back(
    client: Client, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append_traffic(database, 800)
    await fold_all(database)
    whole = await answered(client, "/v1/returning", since="2026-11-20", until="2026-11-22")
    monkeypatch.setattr(returning, "SESSIONS_SAMPLED", 20)
    await append_traffic(database, 1)
    await fold_all(database)
    part = await answered(client, "/v1/returning", since="2026-11-20", until="2026-11-22")
    assert whole["share_of_visitors_read"] == 1 > part["share_of_visitors_read"] > 0
    assert part["weeks"][0]["visitors"] < whole["weeks"][0]["visitors"] == 20
