"""The metrics, /v1/projections and the heartbeat tell how far each projection is, and which one is stuck."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Start
from tests.support.poison import BROKEN, POISONS, put_in
from tests.support.proxy import Proxy, proxied
from tests.support.servers import (
    Client,
    Connection,
    JsonObject,
    drained_projections,
    event,
    eventually,
    post,
    registered,
)
from tests.support.traffic import PROJECTIONS
from usage_service.shared.postgres import connect
from usage_service.shared.settings import ServerSettings

Drained = Callable[[], Awaitable[None]]
Samples = dict[tuple[str, ...], float]


def parsed(text: str) -> Samples:
    """Return the samples of /metrics by name, projection and stage."""
    return {
        (
            sample.name,
            *(sample.labels[label] for label in ("projection", "stage") if label in sample.labels),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scraped(client: Client) -> Samples:
    response = await client.get("/metrics")
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    return parsed(await response.text())


@pytest.fixture
async def stuck(own_database_url: str, start: Start, settings: ServerSettings) -> AsyncIterator[Client]:
    """Start a service whose projection of releases cannot go on before the second event."""
    client = await start(msgspec.structs.replace(settings, database_url=own_database_url))
    database = await connect(own_database_url, application="tests")
    await database.execute(BROKEN)
    await post(client, event("probe_viewed"))
    await post(client, event("release_published", visitor=None, channel="nightly", data={"version": 9999}))

    async def failed() -> bool:
        return bool(await database.fetchval("SELECT failed_after = 1 FROM projections WHERE name = 'releases'"))

    await eventually(failed, "the failure is remembered")
    await eventually(lambda: at_end(database), "the others go on")
    yield client
    await client.close()
    await database.close()


async def at_end(database: Connection) -> bool:
    others = "SELECT bool_and(position = 2) FROM projections WHERE name <> 'releases'"
    return bool(await database.fetchval(others))


async def test_metrics_of_a_service_that_is_well(client: Client, drained: Drained) -> None:
    await post(client, event("probe_viewed"), registered("other"))
    await drained()
    samples = await scraped(client)
    assert samples["glam_database_up",] == 1
    assert samples["glam_log_end_position",] == 2
    assert samples["glam_ingest_queued_events",] == 0
    for name in PROJECTIONS:
        assert samples["glam_projection_position", name, "live"] == 2
        for measure in ("behind_positions", "behind_seconds", "failed", "dead_letters"):
            assert samples[f"glam_projection_{measure}", name, "live"] == 0
    assert not [key for key in samples if key[0] == "glam_projection_failed_after_position"]


async def test_metrics_of_a_projection_that_is_stuck(stuck: Client) -> None:
    samples = await scraped(stuck)
    assert samples["glam_projection_failed", "releases", "live"] == 1
    assert samples["glam_projection_failed_after_position", "releases", "live"] == 1
    assert samples["glam_projection_behind_positions", "releases", "live"] == 1
    assert samples["glam_projection_behind_seconds", "releases", "live"] > 0
    assert samples["glam_projection_failed", "sessions", "live"] == 0


async def test_the_heartbeat_names_what_is_stuck(stuck: Client) -> None:
    response = await stuck.get("/__heartbeat__")
    body = await response.json()
    assert response.status == 503
    assert body["checks"]["projections"] == "releases cannot go on after position 1"
    assert body["positions_behind"]["releases"] == 1


async def test_the_heartbeat_leaves_out_what_is_filled_beside(client: Client, database: Connection) -> None:
    await database.execute("SELECT begin_filling('popularity', 'rebuild')")
    await database.execute("SELECT setval('event_position', 1000000)")
    try:
        await database.execute("UPDATE projections SET position = last_position() WHERE stage = 'live'")
        await database.execute(
            "UPDATE projections SET failed_at = now(), failed_after = 0, error = '' WHERE stage = 'rebuild'"
        )

        async def well() -> bool:
            return (await client.get("/__heartbeat__")).status == 200

        await eventually(well, "the heartbeat is well")
        body = await (await client.get("/__heartbeat__")).json()
        assert sorted(body["positions_behind"]) == PROJECTIONS
        assert ("glam_projection_position", "popularity", "rebuild") in await scraped(client)
    finally:
        await database.execute("SELECT drop_projection('popularity', 'rebuild')")
    assert ("glam_projection_position", "popularity", "rebuild") not in await scraped(client)


async def test_all_tell_of_events_that_were_set_aside(
    start: Start, settings: ServerSettings, own_database_url: str, own_database: Connection
) -> None:
    """And nothing is wrong with a service whose projection went on without one."""
    client = await start(msgspec.structs.replace(settings, database_url=own_database_url))
    await put_in(own_database, POISONS[0])
    await post(client, event("probe_viewed"))
    await drained_projections(own_database)
    samples = await scraped(client)
    for projection, number in (("popularity", 1), ("timeseries", 1), ("sessions", 0)):
        assert samples["glam_projection_dead_letters", projection, "live"] == number
        assert samples["glam_projection_failed", projection, "live"] == 0

    async def well() -> bool:
        return (await client.get("/__heartbeat__")).status == 200

    await eventually(well, "the heartbeat is well")
    body = await (await client.get("/__heartbeat__")).json()
    assert body["events_set_aside"] == {"popularity": 1, "timeseries": 1}
    statuses = (await (await client.get("/v1/projections")).json())["projections"]
    [popularity] = [status for status in statuses if status["name"] == "popularity"]
    assert (popularity["set_aside"], popularity["error"]) == (1, None)
    [letter] = popularity["dead_letters"]
    assert (letter["position"], letter["sqlstate"]) == (1, "22023")
    page = await (await client.get("/sessions")).text()
    assert "2 events are set aside" in page
    assert f"without the event at position 1: {letter['error']}" in page


async def test_statuses_name_what_is_stuck(stuck: Client) -> None:
    response = await stuck.get("/v1/projections")
    statuses = {status["name"]: status for status in (await response.json())["projections"]}
    assert response.headers["Log-Position"] == "2"
    assert sorted(statuses) == PROJECTIONS
    releases: JsonObject = statuses["releases"]
    assert (releases["position"], releases["behind"], releases["failed_after"]) == (1, 1, 1)
    assert "versions" in releases["error"]
    assert (statuses["sessions"]["position"], statuses["sessions"]["failed_after"]) == (2, None)


async def test_statuses_take_no_parameter(client: Client) -> None:
    response = await client.get("/v1/projections?stage=live")
    assert (response.status, (await response.json())["errors"][0]["parameter"]) == (422, "stage")


async def test_a_scrape_tells_that_the_database_is_away(
    start: Start, settings: ServerSettings, database_url: str
) -> None:
    proxy: Proxy
    async with proxied(database_url) as (proxy, url):
        client = await start(msgspec.structs.replace(settings, database_url=url))
        assert (await scraped(client))["glam_database_up",] == 1
        proxy.cut()
        samples = await scraped(client)
        assert samples["glam_database_up",] == 0
        assert {("glam_recording_failing_seconds",), ("glam_ingest_queue_limit_events",)} < samples.keys()
        of_the_database = ("glam_builders", "glam_builds", "glam_log_end_position", "glam_projection_position")
        assert not [key for key in samples if key[0] in of_the_database]
        proxy.restore()

        async def up() -> bool:
            return (await scraped(client))["glam_database_up",] == 1

        await eventually(up, "the database is up again")


async def test_openmetrics_for_those_that_accept_it(client: Client) -> None:
    response = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    text = await response.text()
    assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")
    assert "glam_database_up 1.0" in text


async def test_two_services_of_one_process_share_no_metrics(start: Start, settings: ServerSettings) -> None:
    one, other = await start(settings), await start(settings)
    assert (await scraped(one)).keys() == (await scraped(other)).keys()
