"""A parameter is what was written: `null` is a text and no number a date, so that no filter is off unawares."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.building import served
from tests.support.servers import Client, event, post

pytestmark = pytest.mark.asyncio(loop_scope="module")

NULLS = ("null", "NULL", "Null")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def filled(module_database_url: str) -> AsyncIterator[Client]:
    async with served(module_database_url) as client:
        await post(client, event(visitor="somebody"), event("page_viewed", visitor="else"))
        yield client


async def lines(client: Client, path: str) -> int:
    response = await client.get(path)
    assert response.status == 200, await response.text()
    return len((await response.text()).splitlines())


@pytest.mark.parametrize("name", ["type", "product"])
async def test_a_text_null_is_a_text(filled: Client, name: str) -> None:
    assert await lines(filled, "/v1/events") == 2
    assert await lines(filled, f"/v1/events?{name}=null") == 0


@pytest.mark.parametrize("null", NULLS)
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/events", "visitor"),
        ("/v1/events", "until"),
        ("/v1/builds", "state"),
        ("/v1/popularity", "until"),
        ("/v1/popularity", "limit"),
        ("/v1/sessions", "since"),
    ],
)
async def test_a_null_that_is_no_text_is_refused(filled: Client, path: str, name: str, null: str) -> None:
    response = await filled.get(f"{path}?{name}={null}")
    body = await response.json()
    assert response.status == 422, body
    assert [wrong["parameter"] for wrong in body["errors"]] == [name]


@pytest.mark.parametrize("number", ["20261101", "0", "1764547200", "1.5", "-1", "1e9", "2026"])
@pytest.mark.parametrize(
    "path", ["/v1/events", "/v1/popularity", "/v1/sessions", "/v1/timeseries", "/v1/releases/impact"]
)
async def test_a_number_is_no_date(filled: Client, path: str, number: str) -> None:
    response = await filled.get(path, params={"since": number, "until": "2026-11-02T00:00:00Z"})
    body = await response.json()
    assert response.status == 422, body
    assert "since" in [wrong["parameter"] for wrong in body["errors"]]


@pytest.mark.parametrize(
    "path", ["/v1/events", "/v1/popularity", "/v1/sessions", "/v1/timeseries", "/v1/releases/impact"]
)
async def test_a_day_is_its_first_instant(filled: Client, path: str) -> None:
    of = {"product": "fog"} if path == "/v1/timeseries" else {}
    day = await filled.get(path, params=of | {"since": "2026-11-01", "until": "2026-11-02"})
    instant = await filled.get(path, params=of | {"since": "2026-11-01T00:00:00Z", "until": "2026-11-02T00:00:00Z"})
    assert (day.status, await day.read()) == (200, await instant.read())
