"""GLAM's data requests are answered as by its own server, and each is recorded as a view."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from tests.support.bad_input import service
from tests.support.building import COLUMNS, ask, asked, claim, served
from tests.support.servers import Client, Connection, JsonObject, connected, event, eventually, post, registered
from tests.support.traffic import fold_all
from usage_service.ingest.group_commit import QueueFullError
from usage_service.web.api import glam_data

pytestmark = pytest.mark.asyncio(loop_scope="module")

URL = "/api/v1/data/"
HISTOGRAM = '{"0": 100.0001, "2": 200.0002, "10": 300.0003}'
PERCENTILES = '{"0.1": 0, "5": 2, "95": 10}'
VERSIONS = (144, 143, 142, 141, 101, 99)
BUILT = datetime(2026, 11, 20, 10, tzinfo=UTC)


class Glam(NamedTuple):
    """Client of a service with one probe built, and its database."""

    client: Client
    database: Connection


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="glam")
async def one_glam(module_database_url: str) -> AsyncIterator[Glam]:
    async with served(module_database_url) as client, connected(module_database_url) as database:
        await post(client, registered("gc_ms"), registered("slow_ms"))

        async def asked_for() -> bool:
            return (await ask(client)).status == 202

        await eventually(asked_for, "the catalogue has the probe")
        build_id = await asked(client)
        await claim(database, build_id)
        await store(database, build_id)
        yield Glam(client, database)


async def store(database: Connection, build_id: UUID) -> None:
    """Store rows of six versions, with and without builds, systems, pings and labels."""
    combinations = [
        (version, ping, os, build, key)
        for version in VERSIONS
        for ping in ("*", "metrics")
        for os in ("*", "Windows")
        for build in ("*", f"20261120{version % 24:02}")
        for key in ("", "a label")
    ]
    records = [
        ("fog", "nightly", "gc_ms", build_id, version, ping, os, build, "timing_distribution", key,
         "summed_histogram", 1110, 2220, HISTOGRAM, PERCENTILES, "{}", "{}", None if build == "*" else BUILT)
        for version, ping, os, build, key in combinations
    ]  # fmt: skip
    async with database.transaction():
        await database.copy_records_to_table("probe_rows", records=records, columns=(*COLUMNS, "build_date"))
        await database.execute("SELECT complete_build($1, 1, 1000)", build_id)


def wanted(**changes: object) -> JsonObject:
    query = {"product": "fog", "app_id": "nightly", "ping_type": "*", "probe": "gc_ms", "aggregationLevel": "version"}
    return {name: value for name, value in (query | changes).items() if value is not ...}


async def rows_of(glam: Glam, headers: dict[str, str] | None = None, **changes: object) -> list[JsonObject]:
    response = await glam.client.post(URL, json={"query": wanted(**changes)}, headers=headers)
    assert response.status == 200, await response.text()
    return list((await response.json())["response"])


async def complaints(glam: Glam, body: JsonObject) -> list[str]:
    response = await glam.client.post(URL, json=body)
    assert (response.status, response.content_type) == (400, "application/json"), await response.text()
    return list(await response.json())


async def last_view(database: Connection) -> JsonObject:
    row = await database.fetchrow(
        "SELECT type, product, channel, probe, visitor, source, data FROM event_log ORDER BY position DESC LIMIT 1"
    )
    assert row is not None
    return dict(row)


async def number_of_events(database: Connection) -> int:
    return int(await database.fetchval("SELECT count(*) FROM event_log"))


async def test_a_row_has_what_glam_reads_of_it(glam: Glam) -> None:
    row = next(row for row in await rows_of(glam, metric_key="") if row["metric_key"] == "")
    assert row == {
        "version": 144,
        "ping_type": "*",
        "os": "*",
        "build_id": "*",
        "revision": "",
        "build_date": None,
        "metric": "gc_ms",
        "metric_type": "timing_distribution",
        "metric_key": "",
        "client_agg_type": "summed_histogram",
        "total_users": 1110,
        "sample_count": 2220,
        "histogram": {"0": 100.0001, "2": 200.0002, "10": 300.0003},
        "percentiles": {"0.1": 0, "5": 2, "95": 10},
        "non_norm_histogram": {},
        "non_norm_percentiles": {},
    }
    assert list(row["histogram"]) == ["0", "2", "10"]


@pytest.mark.parametrize(("number", "versions"), [(..., 4), (1, 2), (2, 3), (20, 4), (43, 5), (45, 6)])
async def test_versions_are_counted_down_from_the_latest_which_has_rows(
    glam: Glam, number: object, versions: int
) -> None:
    rows = await rows_of(glam, versions=number)
    assert [row["version"] for row in rows] == [version for version in VERSIONS[:versions] for _ in range(2)]


async def test_versions_are_counted_down_from_the_latest_that_was_released(glam: Glam) -> None:
    await glam.database.execute(
        "INSERT INTO releases VALUES ('fog', 'nightly', 146, now()), ('fog', 'beta', 155, now())"
    )
    assert {row["version"] for row in await rows_of(glam)} == {144, 143}
    assert {row["version"] for row in await rows_of(glam, versions=4)} == {144, 143, 142}
    await glam.database.execute("DELETE FROM releases")


async def test_a_retracted_release_is_not_the_latest(glam: Glam) -> None:
    published_at, retracted_at = "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"
    common = {"product": "fog", "channel": "nightly", "visitor": None}
    release = {"version": 146}
    await post(glam.client, event("release_published", occurred_at=published_at, data=release, **common))
    await fold_all(glam.database)
    assert {row["version"] for row in await rows_of(glam, versions=3)} == {144, 143}
    retraction = {**release, "published_at": published_at}
    await post(glam.client, event("release_retracted", occurred_at=retracted_at, data=retraction, **common))
    await fold_all(glam.database)
    assert {row["version"] for row in await rows_of(glam, versions=3)} == {144, 143, 142, 141}


async def test_an_empty_metric_key_is_no_filter_and_another_is(glam: Glam) -> None:
    keys = {key: {row["metric_key"] for row in await rows_of(glam, metric_key=key)} for key in ("", "a label")}
    assert keys == {"": {"", "a label"}, "a label": {"a label"}}


@pytest.mark.parametrize(
    ("labels", "shown"), [(["a"], {"sum"}), ([], {"sum", "max", "avg"}), (None, {"sum", "max", "avg"})]
)
async def test_a_labeled_counter_that_declares_its_labels_shows_its_sums_alone(
    glam: Glam, labels: list[str] | None, shown: set[str]
) -> None:
    await glam.database.execute(
        "UPDATE probe_rows SET metric_type = 'labeled_counter', client_agg_type = CASE version WHEN 144 THEN 'sum'"
        " WHEN 143 THEN 'max' ELSE 'avg' END"
    )
    definition = None if labels is None else json.dumps({"labels": labels})
    await glam.database.execute("UPDATE catalogue SET definition = $1::text::jsonb WHERE probe = 'gc_ms'", definition)
    assert {row["client_agg_type"] for row in await rows_of(glam)} == shown
    await glam.database.execute(
        "UPDATE probe_rows SET metric_type = 'timing_distribution', client_agg_type = 'summed_histogram'"
    )
    await glam.database.execute("UPDATE catalogue SET definition = NULL WHERE probe = 'gc_ms'")


async def test_builds_of_fog_have_the_revision_of_their_hour(glam: Glam) -> None:
    fields = {"product": "fog", "visitor": None, "occurred_at": "2026-11-20T23:00:00Z"}
    for channel, build_id, revision in (
        ("nightly", "20261120231500", "0123456789ab"),
        ("beta", "2026112022", "fedcba9"),
    ):
        data = {"build_id": build_id, "revision": revision}
        await post(glam.client, event("revision_published", channel=channel, data=data, **fields))
    await fold_all(glam.database)
    revisions = {row["build_id"]: row["revision"] for row in await rows_of(glam, aggregationLevel="build_id")}
    unknown = {"2026112000": "", "2026112022": "", "2026112021": ""}
    assert revisions == unknown | {"2026112023": "0123456789ab"}
    assert {row["revision"] for row in await rows_of(glam)} == {""}


async def labels_of(glam: Glam, query: object) -> tuple[int, object]:
    response = await glam.client.post("/api/v1/labels/", json={"query": query})
    return response.status, await response.json()


async def test_labels_are_the_distinct_metric_keys(glam: Glam) -> None:
    query = {"product": "fog", "app_id": "nightly", "probe": "gc_ms"}
    keys = {"labels": ["", "a label"]}
    before = await number_of_events(glam.database)
    assert await labels_of(glam, query) == (200, keys)
    assert await labels_of(glam, query | {"ping_type": "metrics", "os": "Windows"}) == (200, keys)
    assert await labels_of(glam, query | {"os": "Linux"}) == (200, {"labels": []})
    assert await labels_of(glam, query | {"probe": "slow_ms"}) == (200, {"labels": []})
    assert await number_of_events(glam.database) == before


NAMED = {"product": "fog", "probe": "gc_ms", "app_id": "beta"}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (None, "Unexpected JSON body"),
        ({}, "Missing required query parameters: app_id, probe, product"),
        ({"product": "fog", "probe": "gc_ms"}, "Missing required query parameters: app_id"),
        (NAMED | {"product": "firefox"}, "Unsupported product specified. We currently support only: fenix, fog"),
        (NAMED | {"app_id": "esr"}, "Invalid channel: esr"),
        (NAMED | {"os": "BeOS"}, "Invalid os: BeOS"),
    ],
)
async def test_a_wrong_query_for_labels_is_400_with_one_sentence(glam: Glam, query: object, said: str) -> None:
    assert await labels_of(glam, query) == (400, [said])


async def test_builds_are_those_of_single_builds(glam: Glam) -> None:
    rows = await rows_of(glam, aggregationLevel="build_id", os="Windows", ping_type="metrics")
    assert [(row["version"], row["build_id"], row["os"], row["ping_type"]) for row in rows] == [
        (version, f"20261120{version % 24:02}", "Windows", "metrics") for version in VERSIONS[:4] for _ in range(2)
    ]
    assert {row["build_date"] for row in rows} == {"2026-11-20T10:00:00Z"}


@pytest.mark.parametrize("body", [{}, {"query": None}, {"query": []}, {"query": "fog"}])
async def test_without_a_query_it_is_400(glam: Glam, body: JsonObject) -> None:
    assert (await complaints(glam, body))[0] == "Unexpected JSON body"


@pytest.mark.parametrize(
    ("query", "missing"),
    [
        ({"product": "firefox", "probe": None, "aggregationLevel": None}, "channel"),
        ({"channel": None, "probe": None, "versions": []}, "aggregationLevel"),
        ({"channel": None, "aggregationLevel": None}, "probe"),
        ({"channel": None}, "aggregationLevel, probe"),
        ({}, "aggregationLevel, channel, probe"),
        ({"product": "fenix", "ping_type": None, "probe": None}, "aggregationLevel, app_id"),
        ({"product": "fog", "aggregationLevel": None, "app_id": None, "probe": None}, "ping_type"),
        ({"product": "fog"}, "aggregationLevel, app_id, ping_type, probe"),
    ],
)
async def test_missing_parameters_are_named_in_order(glam: Glam, query: JsonObject, missing: str) -> None:
    answer = await complaints(glam, {"query": query})
    assert answer == [f"Missing required query parameters: {missing}"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"product": "feenicks"}, "Unsupported product specified. We currently support only: firefox, fenix, fog"),
        ({"product": ["fog"]}, "Unsupported product specified."),
        ({"product": "firefox", "channel": "ohrora"}, "Product not currently supported"),
        ({"app_id": "ohrora"}, "Invalid channel: ohrora"),
        ({"app_id": None}, "Invalid channel: None"),
        ({"aggregationLevel": "os"}, "Invalid aggregation level: os"),
        ({"os": "BeOS"}, "Invalid os: BeOS"),
        ({"versions": "3"}, "Invalid versions: 3"),
        ({"versions": True}, "Invalid versions: True"),
        ({"versions": 0}, "Invalid versions: 0"),
        ({"versions": 10**40}, "Invalid versions: 1000"),
        ({"probe": "gc ms"}, "Invalid probe: gc ms"),
        ({"probe": "' OR '1'='1"}, "Invalid probe: "),
        ({"ping_type": "\x00"}, "Invalid ping type: "),
        ({"metric_key": 7}, "Invalid metric key: 7"),
    ],
)
async def test_a_wrong_value_is_named(glam: Glam, changes: JsonObject, said: str) -> None:
    before = await number_of_events(glam.database)
    [message] = await complaints(glam, {"query": wanted(**changes)})
    assert message.startswith(said)
    assert len(message) < 200
    assert await number_of_events(glam.database) == before


@pytest.mark.parametrize(
    "changes",
    [{"probe": "slow_ms"}, {"probe": "never_heard_of"}, {"app_id": "release"}, {"os": "Android"}, {"product": "fenix"}],
)
async def test_without_rows_it_is_404_and_says_how_to_ask_for_them(glam: Glam, changes: JsonObject) -> None:
    query = wanted(**changes)
    response = await glam.client.post(URL, json={"query": query})
    problem = await response.json(content_type="application/problem+json")
    assert (response.status, problem["detail"]) == (404, "No documents found for the given parameters")
    assert response.headers["Link"] == '</v1/builds>; rel="create-form"'
    assert problem["request"] == {"product": query["product"], "channel": query["app_id"], "probe": query["probe"]}
    view = await last_view(glam.database)
    assert (view["type"], view["probe"], view["data"]["found"]) == ("probe_viewed", query["probe"], False)


async def test_what_is_linked_asks_for_the_build(glam: Glam) -> None:
    response = await glam.client.post(URL, json={"query": wanted(probe="slow_ms")})
    problem = await response.json(content_type=None)
    link = response.headers["Link"].partition(">")[0].removeprefix("<")
    assert (await glam.client.post(link, json=problem["request"])).status == 202


async def test_the_legacy_product_has_no_rows_and_no_builds(glam: Glam) -> None:
    response = await glam.client.post(
        URL, json={"query": {"channel": "nightly", "probe": "GC_MS", "aggregationLevel": "version", "process": "gpu"}}
    )
    assert (response.status, "Link" in response.headers) == (404, False)


async def test_a_view_says_what_was_viewed_but_not_by_whom(glam: Glam) -> None:
    named = [{"Usage-Visitor": "somebody"}, {"Cookie": "glam_visitor=somebody"}]
    for headers in named:
        await rows_of(glam, os="Windows")
        alone = await last_view(glam.database)
        await rows_of(glam, headers, os="Windows")
        view = await last_view(glam.database)
        assert alone == view | {"visitor": None}
        assert isinstance(view["visitor"], UUID)
        data = {"found": True, "ping_type": "*", "os": "Windows", "aggregation_level": "version"}
        assert view | {"visitor": None} == {
            "type": "probe_viewed", "product": "fog", "channel": "nightly", "probe": "gc_ms", "visitor": None,
            "source": "app", "data": data,
        }  # fmt: skip


async def test_one_visitor_is_one_however_named(glam: Glam) -> None:
    await rows_of(glam, {"Usage-Visitor": "x" * 5_000})
    first = await last_view(glam.database)
    await rows_of(glam, {"Cookie": "glam_visitor=" + "x" * 5_000})
    assert (await last_view(glam.database))["visitor"] == first["visitor"] is not None


async def test_a_log_that_does_not_answer_delays_by_a_bound_and_fails_nothing(
    glam: Glam, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await number_of_events(glam.database)
    monkeypatch.setattr(glam_data, "RECORD_SECONDS", 0.1)
    async with glam.database.transaction():
        await glam.database.execute("SELECT lock_event_log()")
        started = asyncio.get_running_loop().time()
        await rows_of(glam)
        assert asyncio.get_running_loop().time() - started < 9  # the lock itself is waited for ten seconds
        assert await number_of_events(glam.database) == before

    async def recorded() -> bool:
        return await number_of_events(glam.database) == before + 1

    await eventually(recorded, "the view is recorded once the log answers again")


async def test_a_full_queue_costs_the_view_but_not_the_answer(glam: Glam, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_records: object) -> None:
        raise QueueFullError

    monkeypatch.setattr(service(glam.client).ingest, "enqueue", full)
    with capture_logs() as logged:
        await rows_of(glam)
    assert [line["event"] for line in logged] == ["view_not_recorded"]


@pytest.mark.parametrize("offer", ["gzip", "gzip, deflate, br", "br;q=1, gzip;q=0.5"])
async def test_who_takes_gzip_gets_it(glam: Glam, offer: str) -> None:
    plain = await glam.client.post(URL, json={"query": wanted()}, headers={"Accept-Encoding": "identity"})
    async with glam.client.post(
        URL, json={"query": wanted()}, headers={"Accept-Encoding": offer}, skip_auto_headers=["Accept-Encoding"]
    ) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert await response.read() == await plain.read()
    assert "Content-Encoding" not in plain.headers
    assert plain.headers["Vary"] == "Accept-Encoding"
