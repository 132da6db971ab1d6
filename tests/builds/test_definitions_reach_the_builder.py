"""The definition in a probe's registration is checked, kept, and passed on with each build."""

from datetime import timedelta
from typing import Any

import pytest

from builder.aggregates.definition import Definition
from builder.queue import BuildQueue
from builder.settings import BuilderSettings, source_options
from tests.support.builders import request
from tests.support.ping_makers import RUN_DATE
from tests.support.servers import Client, Connection, post, registered
from tests.support.traffic import fold_all
from usage_service.shared.postgres import open_pool
from usage_service.shared.settings import SettingsError

LINEAR = {"histogram_type": "linear", "range_min": 0, "range_max": 100, "bucket_count": 10}


def registration(**data: object) -> dict[str, Any]:
    made = registered("gc_ms", "custom_distribution")
    return made | {"data": made["data"] | data}


async def test_a_definition_goes_with_the_build(client: Client, database: Connection, database_url: str) -> None:
    await post(client, registration(**LINEAR, labels=['a "b"']), registration())
    await fold_all(database)
    await request(database)
    async with open_pool(database_url, role="usage_builder", application="b1", size=2) as pool:
        [claim] = await BuildQueue(pool, "b1", timedelta(seconds=15)).claim()
    assert claim is not None
    assert claim.request(RUN_DATE).definition == Definition("linear", 0, 100, 10, ('a "b"',))


async def test_a_probe_without_one_has_none(client: Client, database: Connection, database_url: str) -> None:
    await post(client, registered("gc_ms"))
    await fold_all(database)
    await request(database)
    async with open_pool(database_url, role="usage_builder", application="b1", size=2) as pool:
        [claim] = await BuildQueue(pool, "b1", timedelta(seconds=15)).claim()
    assert claim is not None
    assert claim.request(RUN_DATE).definition == Definition()


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        ({"histogram_type": "linear"}, "must have histogram_type, range_min, range_max and bucket_count"),
        (LINEAR | {"range_min": 100}, "must have a range_min below its range_max"),
        (LINEAR | {"histogram_type": "square"}, "must be one of exponential, linear"),
        (LINEAR | {"bucket_count": 2}, "must be at least 3"),
        (LINEAR | {"range_max": 2**40 + 1}, f"must be at most {2**40}"),
        ({"labels": ["a", "a"]}, "must have labels that differ"),
        ({"labels": ["a\0"]}, "must be a text without NUL"),
        ({"labels": ["x"] * 4_097}, "must have at most 4096 items"),
    ],
)
async def test_one_that_makes_no_buckets_is_refused(client: Client, data: dict[str, object], detail: str) -> None:
    response = await client.post("/v1/events", json=registration(**data))
    [item] = (await response.json())["events"]
    assert response.status == 422
    assert detail in str(item["error"])
    assert "/data" in str(item["error"])


def test_datasets_and_sampling_are_settings() -> None:
    settings = BuilderSettings(
        database_url="postgres://x", datasets="fog=desktop, fenix/beta=b", sampled_channels="beta=50"
    )
    options = source_options(settings)
    assert options.datasets == {"fog": "desktop", "fenix/beta": "b"}
    assert options.sampled_channels == {"beta": 50}
    assert source_options(BuilderSettings(database_url="postgres://x")).sampled_channels == {"release": 10}


@pytest.mark.parametrize("text", ["fog", "fog=", "=x", "a=b,c"])
def test_settings_that_are_no_pairs_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="PROBE_BUILDER_DATASETS"):
        source_options(BuilderSettings(database_url="postgres://x", datasets=text))


def test_sample_ids_that_no_whole_weight_makes_good_are_refused() -> None:
    with pytest.raises(SettingsError, match="beta=33 must be one of 1, 2, 4, 5, 10"):
        source_options(BuilderSettings(database_url="postgres://x", sampled_channels="beta=33"))
