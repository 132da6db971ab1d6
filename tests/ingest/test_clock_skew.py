"""However wrong the sender's clock is: with `sent_at`, an event is as old in the log as it was when it was sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import NamedTuple

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tests.support.servers import Client, Connection, JsonObject, event, rounds
from usage_service.event_decoding import LARGEST_SKEW
from usage_service.events import EARLIEST

FEW = settings(
    max_examples=rounds(15),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ROUNDING = timedelta(milliseconds=1)
OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))
# Two days from the ends of the calendar, so that every instant has a date in UTC.
FIRST, LAST = datetime(1, 1, 3, tzinfo=UTC), datetime(9999, 12, 29, tzinfo=UTC)
INSTANTS = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=OFFSETS)
AGES = st.timedeltas(timedelta(days=-3), timedelta(days=40)) | st.timedeltas(timedelta(0), timedelta(days=365 * 3000))
NOW = datetime(2026, 11, 24, tzinfo=UTC)


class Posted(NamedTuple):
    """A request's answer, and the instants between which the request was received."""

    before: datetime
    after: datetime
    status: int
    answer: JsonObject


async def post(client: Client, occurred_at: datetime, **envelope: object) -> Posted:
    body = {"events": [event(occurred_at=occurred_at.isoformat())], **envelope}
    before = datetime.now(UTC)
    response = await client.post("/v1/events", json=body)
    answer = await response.json()
    return Posted(before, datetime.now(UTC), response.status, answer)


async def check(posted: Posted, database: Connection, age: timedelta) -> None:
    """Check that an event is recorded with its age, or refused as too far ahead or too old."""
    if age < -LARGEST_SKEW:
        assert posted.status == 422
        assert "ahead" in posted.answer["events"][0]["error"]["detail"]
    elif age > posted.after - EARLIEST:
        assert posted.status == 422
        assert "before" in posted.answer["events"][0]["error"]["detail"]
    elif age <= posted.before - EARLIEST:
        assert posted.status == 201, posted.answer
        stored = await database.fetchval("SELECT occurred_at FROM event_log ORDER BY position DESC LIMIT 1")
        assert posted.before - age - ROUNDING <= stored <= posted.after - age + ROUNDING


@FEW
@given(sent_at=INSTANTS, age=AGES, zone=OFFSETS)
@example(sent_at=datetime(1970, 1, 1, tzinfo=UTC), age=timedelta(0), zone=UTC)
@example(sent_at=datetime(9000, 1, 1, tzinfo=UTC), age=timedelta(days=365 * 3000), zone=UTC)
@example(sent_at=datetime(1000, 1, 1, tzinfo=UTC), age=timedelta(days=-365 * 8500), zone=UTC)
@example(sent_at=NOW, age=-LARGEST_SKEW, zone=UTC)
@example(sent_at=NOW, age=-LARGEST_SKEW - timedelta(microseconds=1), zone=UTC)
@example(sent_at=datetime(9999, 12, 29, tzinfo=UTC), age=timedelta(days=9000), zone=UTC)
async def test_an_event_is_as_old_as_it_was_when_it_was_sent(
    client: Client, database: Connection, sent_at: datetime, age: timedelta, zone: timezone
) -> None:
    utc = sent_at.astimezone(UTC)
    assume(FIRST <= utc <= LAST)
    assume(utc - LAST <= age <= utc - FIRST)
    posted = await post(client, (utc - age).astimezone(zone), sent_at=sent_at.isoformat())
    await check(posted, database, age)


@FEW
@given(age=AGES, zone=OFFSETS)
async def test_without_sent_at_the_senders_clock_is_believed(
    client: Client, database: Connection, age: timedelta, zone: timezone
) -> None:
    now = datetime.now(UTC)
    assume(age <= now - FIRST)
    occurred_at = (now - age).astimezone(zone)
    posted = await post(client, occurred_at)
    margin = timedelta(seconds=30)
    if posted.status == 201:
        assert EARLIEST <= occurred_at <= posted.after + LARGEST_SKEW
        stored = await database.fetchval("SELECT occurred_at FROM event_log ORDER BY position DESC LIMIT 1")
        assert stored == occurred_at
    else:
        assert posted.status == 422
        assert occurred_at < EARLIEST or occurred_at > posted.after + LARGEST_SKEW - margin


@FEW
@given(sent_at=INSTANTS)
async def test_a_repeat_is_known_by_the_senders_clock(client: Client, sent_at: datetime) -> None:
    """Sent again later, from a clock that was set meanwhile, it is the same event."""
    body = event(occurred_at=sent_at.isoformat())
    first = await client.post("/v1/events", json={"events": [body], "sent_at": sent_at.isoformat()})
    assert first.status == 201
    later = (sent_at + timedelta(hours=7)).isoformat()
    again = await client.post("/v1/events", json={"events": [body], "sent_at": later})
    assert (await again.json())["events"][0]["status"] == "duplicate"
