"""Two choices of a probe's rows are compared, and the builds that moved are told, over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import NamedTuple

import numpy as np
import pytest
import pytest_asyncio

from tests.support.building import COLUMNS, asked, claim, served
from tests.support.distributions import clients, histogram_of
from tests.support.servers import (
    Client,
    Connection,
    JsonObject,
    connected,
    drained_projections,
    event,
    post,
    registered,
)
from usage_service.stats.differences import percentile_differences
from usage_service.stats.distributions import distribution_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROBE, OTHER, FLAG, UNBUILT = "gc_ms", "slow_ms", "a_flag", "new_ms"
BUILDS = [f"20261101{hour:02}" for hour in range(16)]
REGRESSED = range(9, 13)
CLIENTS = 700
Histogram = dict[str, float]


class Compared(NamedTuple):
    """A server, and the histogram of each build."""

    client: Client
    histograms: dict[str, Histogram]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def compared(module_database_url: str) -> AsyncIterator[Compared]:
    chance = np.random.default_rng(20261129)
    made = {
        build: histogram_of(clients(chance, CLIENTS, 400 if place in REGRESSED else 200))
        for place, build in enumerate(BUILDS)
    }
    made["*"] = made[BUILDS[0]]
    async with served(module_database_url) as client, connected(module_database_url) as database:
        await post(client, registered(PROBE), registered(OTHER), registered(FLAG, "boolean"), registered(UNBUILT))
        revision = {"build_id": f"{BUILDS[9]}1530", "revision": "a" * 40}
        await post(client, event("revision_published", visitor=None, channel="nightly", data=revision))
        await drained_projections(database)
        await stored(database, client, PROBE, [row(150, build, histogram) for build, histogram in made.items()])
        slower = row(149, "*", made[BUILDS[9]]) | {"total_users": 60}
        await stored(database, client, OTHER, [slower, row(150, "*", made["*"], metric_key="a label", os="Linux")])
        shares = {"always": 0.2, "never": 0.7, "sometimes": 0.1}
        moved = {"always": 0.3, "never": 0.6, "sometimes": 0.1}
        flags = [row(version, "*", told, client_agg_type="") for version, told in ((149, shares), (150, moved))]
        await stored(database, client, FLAG, flags)
        yield Compared(client, made)


def row(version: int, build: str, histogram: Histogram, **fields: object) -> JsonObject:
    """Return a row; `percentiles` tell numbers from categories."""
    percentiles = {} if "always" in histogram else {"50": 1}
    told = {"histogram": json.dumps(histogram), "percentiles": json.dumps(percentiles)}
    told |= {f"non_norm_{name}": text for name, text in told.items()}
    choice = {"version": version, "ping_type": "*", "os": "*", "build_id": build, "metric_key": ""}
    kind = {"metric_type": "timing_distribution", "client_agg_type": "summed_histogram"}
    return choice | kind | {"total_users": CLIENTS, "total_sample": 9_000} | told | fields


async def stored(database: Connection, client: Client, probe: str, rows: list[JsonObject]) -> None:
    """Store rows as of a build that has succeeded; those of all pings also as of one."""
    build = await asked(client, probe)
    attempt = await claim(database, build)
    of = {"product": "fog", "channel": "nightly", "probe": probe, "built_by": build}
    rows = [one | of | {"ping_type": ping} for one in rows for ping in ("*", "metrics")]
    async with database.transaction():
        records = [tuple(one[name] for name in COLUMNS) for one in rows]
        await database.copy_records_to_table("probe_rows", records=records, columns=COLUMNS)
        await database.execute("SELECT complete_build($1, $2, 1000)", build, attempt)


async def answered(compared: Compared, path: str, status: int = 200) -> JsonObject:
    response = await compared.client.get(f"/v1/probes/fog/{path}")
    body: JsonObject = await response.json()
    assert response.status == status, body
    return body


async def test_two_builds_are_compared(compared: Compared) -> None:
    query = f"channel=nightly&build_id={BUILDS[0]}&with_build_id={BUILDS[9]}"
    found = await answered(compared, f"{PROBE}/comparison?{query}")
    one, other = (
        distribution_of(compared.histograms[build], numeric=True, counter=False, total_users=CLIENTS, clients=CLIENTS)
        for build in (BUILDS[0], BUILDS[9])
    )
    assert one
    assert other
    expected = percentile_differences(one, other)
    assert [(each["of"], each["difference"]["value"]) for each in found["percentiles"]] == [
        (each.of, each.difference.value) for each in expected
    ]
    assert found["differs"] is True
    assert found["largest"]["difference"]["low"] > 0
    assert found["largest"]["first"] < found["largest"]["second"]
    assert (found["first"]["build_id"], found["second"]["build_id"]) == (BUILDS[0], BUILDS[9])
    assert found["second"]["histogram"] == compared.histograms[BUILDS[9]]
    assert (found["first"]["clients"], found["first"]["few_clients"], found["categories"]) == (CLIENTS, False, [])


async def test_two_probes_are_compared_and_few_clients_are_said(compared: Compared) -> None:
    """A probe without the newest version or the label shows what it has, and all is said."""
    query = f"channel=nightly&with_probe={OTHER}&with_version=149&with_metric_key="
    found = await answered(compared, f"{PROBE}/comparison?{query}")
    assert (found["first"]["version"], found["second"]["version"], found["second"]["probe"]) == (150, 149, OTHER)
    assert (found["second"]["few_clients"], found["second"]["clients"]) == (True, 60)


async def test_categories_are_compared(compared: Compared) -> None:
    found = await answered(compared, f"{FLAG}/comparison?channel=nightly&version=149&with_version=150")
    differences = {one["of"]: round(one["difference"]["value"], 3) for one in found["categories"]}
    assert differences == {"always": 0.1, "never": -0.1, "sometimes": 0}
    assert (found["percentiles"], found["differs"]) == ([], True)
    assert found["largest"]["at"] in ("always", "never")


async def test_numbers_and_categories_cannot_be_compared(compared: Compared) -> None:
    found = await answered(compared, f"{PROBE}/comparison?channel=nightly&with_probe={FLAG}&with_client_agg_type=")
    assert (found["differs"], found["largest"], found["percentiles"], found["categories"]) == (None, None, [], [])


async def test_the_builds_that_moved_are_told(compared: Compared) -> None:
    found = await answered(compared, f"{PROBE}/changes?channel=nightly")
    assert (found["compared"], found["left_out"]) == (len(BUILDS) - 1, 0)
    there, back = found["changes"]
    assert (there["build_before"], there["build_id"]) == (BUILDS[8], BUILDS[9])
    assert (back["build_before"], back["build_id"]) == (BUILDS[12], BUILDS[13])
    assert there["medians"]["difference"]["value"] > 0 > back["medians"]["difference"]["value"]
    assert there["largest"]["difference"]["low"] > 0 > back["largest"]["difference"]["high"]
    assert max(there["largest"]["p_value"], back["largest"]["p_value"]) < 0.001
    assert (there["revision"], there["revision_before"], there["version"]) == ("a" * 40, None, 150)
    assert (await answered(compared, f"{FLAG}/changes?channel=nightly"))["changes"] == []


async def test_the_probes_that_a_version_moved_are_told(compared: Compared) -> None:
    """Compare probes that have rows of the version and of one before, of all builds."""
    path = "/v1/releases/distributions?product=fog&channel=nightly&version="
    found = await (await compared.client.get(f"{path}150")).json()
    assert (found["compared"], found["moved"], found["cut"]) == (1, 1, False)
    [moved] = found["probes"]
    assert (moved["probe"], moved["version_before"], moved["medians"]) == (FLAG, 149, None)
    alone = await answered(compared, f"{FLAG}/comparison?channel=nightly&version=149&with_version=150")
    assert moved["largest"] == alone["largest"]  # one is not many
    assert (await (await compared.client.get(f"{path}149")).json())["probes"] == []


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        (f"{PROBE}/comparison?channel=nightly", 422, "with_version"),
        (f"{PROBE}/comparison?channel=nightly&with_version=x", 422, "with_version"),
        (f"{PROBE}/comparison?channel=nightly&with_version=1", 404, "version 1"),
        (f"{PROBE}/comparison?channel=nightly&with_os=Linux", 404, "system Linux"),
        (f"{PROBE}/comparison?channel=nightly&with_channel=beta", 404, "beta"),
        (f"{PROBE}/comparison?channel=nightly&with_probe=unknown_ms", 404, "unknown_ms"),
        (f"{UNBUILT}/changes?channel=nightly", 404, "never built"),
        (f"{PROBE}/changes", 422, "channel"),
    ],
)  # fmt: skip
async def test_what_is_not_there_is_said(compared: Compared, path: str, status: int, words: str) -> None:
    assert words in json.dumps(await answered(compared, path, status))
