"""The log is read from any position, filtered, as lines or Arrow, to its end or on as it grows."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.servers import Client, Connection, JsonObject, event, post, rounds
from usage_service.log import arrow as columns
from usage_service.log import reading

ARROW = {"Accept": "application/vnd.apache.arrow.stream"}


@pytest.fixture(autouse=True)
def short_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the ranges, so that a few events are many of them."""
    monkeypatch.setattr(reading, "RANGE_POSITIONS", 3)
    monkeypatch.setattr(columns, "RANGE_POSITIONS", 3)


@pytest.fixture
async def posted(client: Client) -> list[JsonObject]:
    """Post twenty events of several types, every fifth of another product."""
    kinds = ["page_viewed", "probe_viewed", "x_mine", "page_viewed"]
    events = [
        event(
            kinds[number % 4],
            product="fenix" if number % 5 == 0 else "fog",
            visitor=f"person {number % 3}",
            occurred_at=f"2026-11-{1 + number:02}T12:00:00+00:00",
        )
        for number in range(20)
    ]
    await post(client, *events)
    return events


async def lines(client: Client, asked: str) -> list[JsonObject]:
    response = await client.get(f"/v1/events?{asked}")
    assert response.status == 200, await response.text()
    assert response.content_type == "application/x-ndjson"
    return [json.loads(line) for line in (await response.text()).splitlines()]


async def rows(client: Client, asked: str) -> list[JsonObject]:
    response = await client.get(f"/v1/events?{asked}", headers=ARROW)
    assert response.status == 200, await response.text()
    with pa.ipc.open_stream(await response.read()) as stream:
        return list(stream.read_all().to_pylist())


async def test_all_of_it_is_what_was_posted(client: Client, posted: list[JsonObject]) -> None:
    got = await lines(client, "")
    assert [item["position"] for item in got] == list(range(1, 21))
    for sent, read in zip(posted, got, strict=True):
        same = ("event_id", "type", "occurred_at", "product", "data")
        assert {name: sent[name] for name in same} == {name: read[name] for name in same}
        assert str(UUID(read["visitor"])) == read["visitor"]
        assert read["source"] == "app"


async def test_text_survives_to_the_letter(client: Client) -> None:
    text = 'quotes " \\ back\\slash, tab \t newline \n, delimiter \x02 and quote \x01, \u202eאבג, 😀 </script>'
    await post(client, event(data={"page": text}))
    [line] = await lines(client, "")
    [row] = await rows(client, "")
    assert line["data"]["page"] == text
    assert json.loads(row["data"])["page"] == text


@pytest.mark.usefixtures("posted")
async def test_arrow_has_the_same_rows(client: Client) -> None:
    from_lines, from_arrow = await lines(client, ""), await rows(client, "")
    for line, row in zip(from_lines, from_arrow, strict=True):
        times = ("occurred_at", "recorded_at")
        ids = {name: str(value) for name, value in row.items() if isinstance(value, UUID)}
        assert {name: value for name, value in (row | ids).items() if name not in ("data", *times)} == {
            name: value for name, value in line.items() if name not in ("data", *times)
        }
        assert json.loads(row["data"]) == line["data"]
        assert row["occurred_at"].isoformat() == line["occurred_at"]


@pytest.mark.usefixtures("posted")
@pytest.mark.parametrize(
    ("asked", "positions"),
    [
        ("after=15", [16, 17, 18, 19, 20]),
        ("after=20", []),
        ("after=99999", []),
        ("limit=4", [1, 2, 3, 4]),
        ("after=2&limit=5", [3, 4, 5, 6, 7]),
        ("type=x_mine", [3, 7, 11, 15, 19]),
        ("type=x_mine,probe_viewed&limit=3", [2, 3, 6]),
        ("product=fenix", [1, 6, 11, 16]),
        ("product=fenix&after=6", [11, 16]),
        ("since=2026-11-19T00:00:00Z", [19, 20]),
        ("since=2026-11-05T12:00:00Z&until=2026-11-07T12:00:00Z", [5, 6]),
        ("type=nothing", []),
        ("visitor=00000000-0000-0000-0000-000000000000", []),
    ],
)
async def test_filters(client: Client, asked: str, positions: list[int]) -> None:
    assert [item["position"] for item in await lines(client, asked)] == positions
    assert [item["position"] for item in await rows(client, asked)] == positions


@pytest.mark.usefixtures("posted")
async def test_one_visitors_events(client: Client) -> None:
    everything = await lines(client, "")
    visitor = everything[1]["visitor"]
    expected = [item["position"] for item in everything if item["visitor"] == visitor]
    assert [item["position"] for item in await lines(client, f"visitor={visitor}")] == expected
    assert len(expected) == 7


async def test_a_reader_follows_the_tail(client: Client, posted: list[JsonObject]) -> None:
    response = await client.get("/v1/events?after=18&wait=30&limit=5")
    seen = [json.loads(await response.content.readline())["position"] for _ in range(2)]
    await post(client, event(), event())
    seen += [json.loads(await response.content.readline())["position"] for _ in range(2)]
    await post(client, event())
    seen += [json.loads(line)["position"] for line in (await response.text()).splitlines()]
    assert seen == [19, 20, 21, 22, 23]


async def test_waiting_ends_when_nothing_comes(client: Client, posted: list[JsonObject]) -> None:
    async with asyncio.timeout(20):
        assert await lines(client, "after=20&wait=1") == []


@pytest.mark.parametrize("many", [5])
async def test_readers_that_go_away_leave_no_connection_behind(
    client: Client, posted: list[JsonObject], database: Connection, many: int
) -> None:
    for _ in range(many):
        response = await client.get("/v1/events?wait=60")
        await response.content.readline()
        response.close()
        arrow = await client.get("/v1/events", headers=ARROW)
        arrow.close()
    assert len(await lines(client, "")) == 20


@given(after=st.integers(0, 25), limit=st.none() | st.integers(1, 30), positions=st.integers(1, 30))
@settings(
    max_examples=rounds(15),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_any_range_reads_the_same(
    client: Client,
    posted: list[JsonObject],
    monkeypatch: pytest.MonkeyPatch,
    after: int,
    limit: int | None,
    positions: int,
) -> None:
    monkeypatch.setattr(reading, "RANGE_POSITIONS", positions)
    monkeypatch.setattr(columns, "RANGE_POSITIONS", positions)
    asked = f"after={after}" + (f"&limit={limit}" if limit else "")
    expected = list(range(after + 1, 21))[:limit]
    assert [item["position"] for item in await lines(client, asked)] == expected
    assert [item["position"] for item in await rows(client, asked)] == expected
