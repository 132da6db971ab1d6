"""Metrics of builds: their number in each state and cost, how long the oldest waits, and how many requests follow."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.building import asked, bring_to, cancel, claim, fail, look, service
from tests.support.night_calls import claim_jobs, complete_job, night_of, plan
from tests.support.servers import Client, Connection, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

STATES = ["queued", "running", "succeeded", "no_data", "failed", "cancelled"]


async def scraped(client: Client) -> dict[tuple[str, ...], float]:
    """Return the samples about builds, by name, state and prefetched."""
    response = await client.get("/metrics")
    labels = ("state", "prefetched")
    return {
        (sample.name, *(sample.labels[label] for label in labels if label in sample.labels)): sample.value
        for family in text_string_to_metric_families(await response.text())
        for sample in family.samples
        if family.name.startswith("glam_build") and not family.name.startswith("glam_builder")
    }


async def test_without_builds_every_series_is_there_and_zero(client: Client) -> None:
    samples = await scraped(client)
    counted = ("glam_builds", "glam_build_attempts", "glam_build_bytes")
    assert set(samples) == {
        *((name, state, prefetched) for name in counted for state in STATES for prefetched in ("true", "false")),
        *(("glam_build_queue_oldest_seconds", prefetched) for prefetched in ("true", "false")),
        ("glam_build_waiters",),
    }
    assert set(samples.values()) == {0}


async def test_builds_are_counted_where_they_are(client: Client, database: Connection) -> None:
    for number, stage in enumerate(["succeeded", "no_data", "failed", "cancelled", "progressed"]):
        await bring_to(database, await asked(client, f"probe_{number}"), stage)
    again = await asked(client, "probe_9")
    await fail(database, again, await claim(database, again), timedelta(hours=1))
    await asked(client, "gc_ms")
    await database.execute("SELECT request_build('fog', 'nightly', 'slow_ms', 'test', true)")
    await database.execute("UPDATE builds SET not_before = not_before - interval '90 s' WHERE state = 'queued'")
    samples = await scraped(client)
    builds = {key[1:]: value for key, value in samples.items() if key[0] == "glam_builds" and value}
    once = {(state, "false"): 1 for state in STATES if state != "queued"}
    assert builds == once | {("queued", "false"): 2, ("queued", "true"): 1}
    assert samples["glam_build_attempts", "queued", "false"] == 1
    assert samples["glam_build_attempts", "cancelled", "false"] == 0
    assert samples["glam_build_bytes", "running", "false"] == 1_000
    assert 90 <= samples["glam_build_queue_oldest_seconds", "false"] < 120
    assert 90 <= samples["glam_build_queue_oldest_seconds", "true"] < 120


async def test_who_waits_and_who_follows_is_counted(client: Client, database: Connection) -> None:
    build = await asked(client)
    answer = asyncio.create_task(look(client, build, Prefer="wait=30"))
    async with client.get(f"/v1/builds/{build}/events") as stream:

        async def both_wait() -> bool:
            return service(client).watch.waiting == 2

        await eventually(both_wait, "both wait")
        samples = await scraped(client)
        assert (samples["glam_build_waiters",], service(client).streams.taken) == (2, 1)
        await cancel(database, build)
        await stream.read()
    await answer
    samples = await scraped(client)
    assert (samples["glam_build_waiters",], service(client).streams.taken) == (0, 0)


async def test_nights_under_way_tell_what_is_left_and_since_when_they_stand_still(
    client: Client, database: Connection
) -> None:
    async def night_samples() -> dict[tuple[str, str], float]:
        families = text_string_to_metric_families(await (await client.get("/metrics")).text())
        samples = [sample for family in families if family.name.startswith("glam_night") for sample in family.samples]
        return {(sample.name, sample.labels.get("state", "")): sample.value for sample in samples}

    nothing = await night_samples()
    assert set(nothing.values()) == {0}
    night = await night_of(database, "gc_ms", "slow_ms", "gc_slice")
    await plan(database, ["gc_ms", "slow_ms"], left=["gc_slice"])
    await database.execute("UPDATE nights SET requested_at = requested_at - interval '2 hours'")
    await database.execute("UPDATE shared_jobs SET queued_at = queued_at - interval '1 hour'")
    samples = await night_samples()
    assert samples.keys() == nothing.keys()
    assert (samples["glam_nights", "running"], samples["glam_nights", "planning"]) == (1, 0)
    assert samples["glam_night_to_build", ""] == 2
    assert 7_200 <= samples["glam_night_oldest_seconds", ""] < 10_000
    assert 3_600 <= samples["glam_night_idle_seconds", ""] < 7_000
    [job] = await claim_jobs(database)
    assert (await night_samples())["glam_night_idle_seconds", ""] < 3_600  # a job was begun
    await complete_job(database, job)
    await database.execute("SELECT cancel_night($1)", night)
    assert await night_samples() == nothing
