"""The log is read from any position, filtered, as lines or Arrow, to its end or on as it grows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple
from uuid import UUID

import pyarrow as pa
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import new_database
from tests.support.building import served
from tests.support.servers import Client, JsonObject, event, post, rounds
from usage_service.log import arrow as columns
from usage_service.log import reading

pytestmark = pytest.mark.asyncio(loop_scope="module")

ARROW = {"Accept": "application/vnd.apache.arrow.stream"}


@pytest.fixture(autouse=True)
def short_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the ranges, so that a few events are many of them."""
    monkeypatch.setattr(reading, "RANGE_POSITIONS", 3)
    monkeypatch.setattr(columns, "RANGE_POSITIONS", 3)


class Filled(NamedTuple):
    """A service, and the events that its log has."""

    client: Client
    posted: list[JsonObject]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def filled(module_database_url: str) -> AsyncIterator[Filled]:
    """Start a service whose log nobody appends to."""
    async with served(module_database_url) as client:
        yield Filled(client, await post_twenty(client))


@pytest.fixture
def client(filled: Filled) -> Client:
    return filled.client


@asynccontextmanager
async def growing(server_url: str, worker_id: str) -> AsyncIterator[Client]:
    """Start a service whose log a test may append to, which has the same events."""
    async with new_database(server_url, f"usage_{worker_id}_own") as url, served(url) as client:
        await post_twenty(client)
        yield client


async def post_twenty(client: Client) -> list[JsonObject]:
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


async def test_all_of_it_is_what_was_posted(client: Client, filled: Filled) -> None:
    got = await lines(client, "")
    assert [item["position"] for item in got] == list(range(1, 21))
    for sent, read in zip(filled.posted, got, strict=True):
        same = ("event_id", "type", "occurred_at", "product", "data")
        assert {name: sent[name] for name in same} == {name: read[name] for name in same}
        assert str(UUID(read["visitor"])) == read["visitor"]
        assert read["source"] == "app"


async def test_text_survives_to_the_letter(server_url: str, worker_id: str) -> None:
    text = 'quotes " \\ back\\slash, tab \t newline \n, delimiter \x02 and quote \x01, \u202eאבג, 😀 </script>'
    async with growing(server_url, worker_id) as client:
        await post(client, event(data={"page": text}))
        [line] = await lines(client, "after=20")
        [row] = await rows(client, "after=20")
    assert line["data"]["page"] == text
    assert json.loads(row["data"])["page"] == text


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


async def test_one_visitors_events(client: Client) -> None:
    everything = await lines(client, "")
    visitor = everything[1]["visitor"]
    expected = [item["position"] for item in everything if item["visitor"] == visitor]
    assert [item["position"] for item in await lines(client, f"visitor={visitor}")] == expected
    assert len(expected) == 7


async def test_a_reader_follows_the_tail(server_url: str, worker_id: str) -> None:
    async with growing(server_url, worker_id) as client:
        response = await client.get("/v1/events?after=18&wait=30&limit=5")
        seen = [json.loads(await response.content.readline())["position"] for _ in range(2)]
        await post(client, event(), event())
        seen += [json.loads(await response.content.readline())["position"] for _ in range(2)]
        await post(client, event())
        seen += [json.loads(line)["position"] for line in (await response.text()).splitlines()]
    assert seen == [19, 20, 21, 22, 23]


async def test_waiting_ends_when_nothing_comes(client: Client) -> None:
    async with asyncio.timeout(20):
        assert await lines(client, "after=20&wait=1") == []


async def test_readers_that_go_away_leave_no_connection_behind(client: Client) -> None:
    for _ in range(5):
        response = await client.get("/v1/events?wait=60")
        await response.content.readline()
        response.close()
        arrow = await client.get("/v1/events", headers=ARROW)
        arrow.close()
    assert len(await lines(client, "")) == 20


@given(after=st.integers(0, 25), limit=st.none() | st.integers(1, 30), positions=st.integers(1, 30))
@settings(
    max_examples=rounds(8),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_any_range_reads_the_same(
    client: Client,
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
