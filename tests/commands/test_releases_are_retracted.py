"""`usage-service releases retract` takes back what is shown of a channel, and nothing else."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
import pytest_asyncio
from typer.testing import CliRunner, Result

from tests.support.building import served
from tests.support.servers import Client, Connection, connected, drained_projections, event, post
from usage_service.cli import make_app
from usage_service.commands.releases import RetractionError

pytestmark = pytest.mark.asyncio(loop_scope="module")

WRONG, RIGHT = "2022-04-05T00:00:00Z", "2022-05-03T00:00:00Z"


class Releases(NamedTuple):
    """Client of a service with many releases on one day, and its database."""

    client: Client
    database: Connection


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="releases")
async def many_releases(module_database_url: str) -> AsyncIterator[Releases]:
    async with served(module_database_url) as client, connected(module_database_url) as database:
        wrong = [(WRONG, "release", version) for version in range(1, 131)]
        right = [(RIGHT, "release", 100), (RIGHT, "release", 200), (WRONG, "beta", 100)]
        days = [(f"2021-01-{day:02}T00:00:00Z", "release", version) for version in range(1, 61) for day in (1, 2)]
        await post(
            client,
            *(
                event("release_published", occurred_at=at, channel=channel, visitor=None, data={"version": version})
                for at, channel, version in wrong + right + days
            ),
        )
        await drained_projections(database)
        yield Releases(client, database)


async def called(releases: Releases, *words: str) -> Result:
    url = str(releases.client.make_url("/"))
    command = ["releases", "retract", "fog", "release", *words, "--url", url, "--token", "none"]
    result = await asyncio.to_thread(CliRunner().invoke, make_app(), command)
    await drained_projections(releases.database)
    return result


async def shown(releases: Releases, channel: str = "release") -> dict[int, str]:
    rows = await releases.database.fetch("SELECT version, published_at FROM releases WHERE channel = $1", channel)
    return {row["version"]: f"{row['published_at']:%Y-%m-%d}" for row in rows}


async def test_some_or_all_of_a_channel(releases: Releases) -> None:
    before = await shown(releases)
    assert len(before) == 131
    dry = await called(releases, "1-131", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert await shown(releases) == before
    assert len(list(csv.DictReader(io.StringIO(dry.stdout)))) >= 100  # a hundred of one instant at a time
    one = await called(releases, "100")
    assert one.stdout.splitlines()[1:] == ["fog,release,100,2022-04-05T00:00:00Z"]
    assert (await shown(releases))[100] == "2022-05-03"
    assert await shown(releases, "beta") == {100: "2022-04-05"}
    first = await called(releases, "1-60")
    assert "60 retracted" in first.stderr
    assert (await shown(releases))[60] == "2021-01-02"


@pytest.mark.parametrize(("version", "why"), [("999", "no such version of fog release"), ("100.0", "no major version")])
async def test_what_cannot_be_retracted_is_one_line(releases: Releases, version: str, why: str) -> None:
    result = await called(releases, version)
    assert isinstance(result.exception, RetractionError)
    assert why in str(result.exception)
