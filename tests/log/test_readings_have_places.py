"""Readings of the log that cost something for as long as they last have places, in all and for each token."""

from __future__ import annotations

import time
from datetime import timedelta

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Start
from tests.support.building import service
from tests.support.held_readings import held_batches
from tests.support.servers import Client, Connection, eventually
from usage_service import service as of_service
from usage_service.log.reading import log_end
from usage_service.shared.postgres import Pool
from usage_service.shared.settings import ServerSettings
from usage_service.shared.stream_limit import StreamLimit
from usage_service.tokens import create_token
from usage_service.web import waiting
from usage_service.web.api import log

OWN = "the operator's own token"
ARROW = {"Accept": "application/vnd.apache.arrow.stream"}
TAIL = "/v1/events?wait=300"


async def is_free(places: StreamLimit) -> bool:
    return places.taken == 0


async def opened(client: Client, path: str, token: str, headers: dict[str, str]) -> int:
    """Open a reading that stays open; return the status of its answer."""
    response = await client.get(path, headers={"Authorization": f"Bearer {token}"} | headers)
    if response.status == 429:
        assert response.content_type == "application/problem+json"
        assert response.headers["Retry-After"] == "5"
    return response.status


async def measured(client: Client, kind: str) -> dict[str, float]:
    """Return the metrics of the places of a kind of streams."""
    response = await client.get("/metrics", headers={"Authorization": f"Bearer {OWN}"})
    return {
        family.name.removeprefix("glam_stream").lstrip("s_"): sample.value
        for family in text_string_to_metric_families(await response.text())
        for sample in family.samples
        if family.name.startswith("glam_stream") and sample.labels["kind"] == kind
    }


@pytest.mark.parametrize(("limit", "path", "headers"), [("ARROW_READINGS", "/v1/events", ARROW), ("TAILS", TAIL, {})])
async def test_one_token_leaves_places_to_others(
    start: Start,
    settings: ServerSettings,
    database: Connection,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    path: str,
    headers: dict[str, str],
) -> None:
    monkeypatch.setattr(of_service, f"MOST_{limit}", 3)
    monkeypatch.setattr(of_service, f"MOST_{limit}_EACH", 2)
    client = await start(msgspec.structs.replace(settings, token=OWN))
    first, second = [await create_token(database, name, ["read"], timedelta(days=1)) for name in ("one", "two")]
    with held_batches():
        assert [await opened(client, path, first, headers) for _ in range(3)] == [200, 200, 429]
        assert [await opened(client, path, second, headers) for _ in range(2)] == [200, 429], "there are three in all"
        assert await opened(client, "/v1/events", first, {}) == 200, "what ends by itself needs no place"
        kind = {"ARROW_READINGS": "arrow", "TAILS": "tail"}[limit]
        assert await measured(client, kind) == {"used_places": 3, "limit_places": 3, "refused": 2}
        for other in {"build_events", "mirror", "arrow", "tail"} - {kind}:
            counted = await measured(client, other)
            assert (counted["used_places"], counted["limit_places"] > 3, counted["refused"]) == (0, True, 0)


async def test_a_reading_that_ends_frees_its_place(client: Client) -> None:
    places = service(client).arrow_readings
    with held_batches() as let:
        response = await client.get("/v1/events", headers=ARROW)
        assert (response.status, places.taken) == (200, 1)
        let.set()
        await response.read()
    await eventually(lambda: is_free(places), "the place is free")


async def test_a_reader_that_leaves_a_quiet_tail_frees_its_place(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "CHECK_SECONDS", 0.05)
    response = await client.get(TAIL)
    assert service(client).tails.taken == 1
    response.close()
    await eventually(lambda: is_free(service(client).tails), "the place is free")


async def test_a_tail_pauses_however_often_the_log_grows(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    read_at = list[float]()

    async def noted(pool: Pool) -> int:
        read_at.append(time.monotonic())
        return await log_end(pool)

    monkeypatch.setattr(log, "log_end", noted)
    response = await client.get(TAIL)

    async def grown_often() -> bool:
        service(client).log_growth.wake()
        return len(read_at) >= 6

    await eventually(grown_often, "it is read six times")  # which looks five times as often as a tail may read
    response.close()
    assert read_at[5] - read_at[0] >= 5 * log.PAUSE_SECONDS
