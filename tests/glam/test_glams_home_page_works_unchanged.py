"""What GLAM's pages ask beside data: its probes, those of the home page, and when rows were refreshed."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from tests.support.building import ask, asked, claim, complete
from tests.support.servers import Client, Connection, JsonObject, event, eventually, post, registered


async def answered(client: Client, path: str, **parameters: str) -> JsonObject:
    response = await client.get(path, params=parameters)
    assert response.status == 200, await response.text()
    found: JsonObject = await response.json()
    return found


async def known(client: Client, *probes: str) -> None:
    items = await post(client, *[registered(probe) for probe in probes], registered("search_counts_x"))
    await client.get("/v1/popularity", params={"order": "least", "at_least": items[-1]["position"], "wait": 20})

    async def all_known() -> bool:
        return (await ask(client, probes[-1])).status == 202

    await eventually(all_known, "the catalogue has the probes")


async def built(client: Client, database: Connection, probe: str) -> None:
    build_id = await asked(client, probe)
    await complete(database, build_id, await claim(database, build_id), rows=2)


async def test_probes_are_those_that_may_be_shown(client: Client) -> None:
    await known(client, "gc_ms", "slow_ms")
    retired = event("probe_retired", probe="slow_ms", data={}, occurred_at="2026-11-27T00:00:00Z")
    [item] = await post(client, retired)
    at_least = str(item["position"])
    found = await answered(client, "/api/v1/probes/", at_least=at_least, wait="20", unknown="is ignored")
    assert found == {"probes": {"gc_ms": {"name": "gc_ms", "type": "timing_distribution", "labels": None}}}
    assert await answered(client, "/api/v1/probes/", product="fenix") == {"probes": {}}


async def test_the_home_page_has_the_most_viewed_probes_that_have_rows(client: Client, database: Connection) -> None:
    await known(client, "slow_ms", "missing_ms", "gc_ms")
    await database.execute("UPDATE builds SET state = 'cancelled', finished_at = now()")
    for probe in ("gc_ms", "slow_ms"):
        await built(client, database, probe)
    views = {"missing_ms": 3, "slow_ms": 2, "gc_ms": 1}
    now = datetime.now(UTC).isoformat()
    viewed = [
        event("probe_viewed", probe=probe, occurred_at=now) for probe, number in views.items() for _ in range(number)
    ]
    at_least = str((await post(client, *viewed))[-1]["position"])
    first = await answered(client, "/api/v1/probes/random/", n="9", at_least=at_least, wait="20")
    assert [probe["info"]["name"] for probe in first["probes"]] == ["slow_ms", "gc_ms"]
    assert json.loads(first["probes"][0]["data"]) == {}
    for number, shown in (("1", 1), ("0", 0), ("-1", 2), ("many", 2), ("9" * 200, 2)):
        assert len((await answered(client, "/api/v1/probes/random/", n=number))["probes"]) == shown
    assert await answered(client, "/api/v1/probes/random/", channel="beta") == {"probes": []}


async def test_updates_tell_when_rows_last_came(client: Client, database: Connection) -> None:
    assert await answered(client, "/api/v1/updates/") == {"updates": {}}
    await known(client, "slow_ms", "gc_ms")
    await database.execute("UPDATE builds SET state = 'cancelled', finished_at = now()")
    assert await answered(client, "/api/v1/updates/") == {"updates": {}}
    for probe in ("gc_ms", "slow_ms"):
        await built(client, database, probe)
    finished = await database.fetch("SELECT finished_at FROM builds WHERE state = 'succeeded' ORDER BY finished_at")
    earlier, later = (row["finished_at"] for row in finished)
    assert await updated(client) == {"fog-nightly": later}
    await database.execute("UPDATE builds SET channel = 'beta', product = 'fenix' WHERE finished_at = $1", later)
    assert await updated(client) == {"fenix-beta": later, "fog-nightly": earlier}
    assert await updated(client, product="fenix-beta") == {"fenix-beta": later}
    assert await updated(client, product="fenix") == {}


async def updated(client: Client, **parameters: str) -> dict[str, datetime]:
    found = await answered(client, "/api/v1/updates/", **parameters)
    return {name: datetime.fromisoformat(instant) for name, instant in found["updates"].items()}


@pytest.mark.parametrize("path", ["/api/v1/probes/", "/api/v1/probes/random/"])
async def test_a_product_that_cannot_be_is_named(client: Client, path: str) -> None:
    response = await client.get(path, params={"product": "FOG"})
    assert response.status == 422
    assert (await response.json())["errors"][0]["parameter"] == "product"
