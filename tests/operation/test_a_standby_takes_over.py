"""A standby that is promoted takes over: server and builder go on by themselves, and nothing acknowledged is lost.

SOAK_ROUNDS says how many times each cluster takes over from the other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import structlog

from tests.conftest import SECRET, Start
from tests.support.builders import put_in_catalogue, request, running_builder
from tests.support.chaos import Sender, client_session
from tests.support.servers import Client, connected, event, eventually, post, rounds
from tests.support.standby import Node
from usage_service.ingest import appending
from usage_service.shared.settings import ServerSettings

ROUNDS = rounds(1)
SENDERS = 3
PATIENCE = 60.0

log = structlog.get_logger(__name__)
pytestmark = pytest.mark.timeout(300)


class Pair:
    """Two clusters: the one that takes writes, and its synchronous standby."""

    def __init__(self, primary: Node, standby: Node) -> None:
        self.primary, self.standby = primary, standby
        login, _, place = primary.url.rpartition("@")
        database = place.partition("/")[2]
        self.url = f"{login}@{primary.host},{standby.host}/{database}?target_session_attrs=read-write"

    async def switch_over(self) -> None:
        """Stop the primary in order, promote the standby, and start the old primary as its standby: demoted."""
        self.primary.postgres.stop()
        await self._promote()
        self.standby.follow(self.primary)
        await self.primary.commit_on_both()

    async def fail_over(self) -> None:
        """Kill the primary, and promote the standby."""
        self.primary.kill()
        await self._promote()

    async def renew_standby(self) -> None:
        """Make the primary that was killed a standby."""
        self.standby.copy(self.primary)
        await self.primary.commit_on_both()

    async def _promote(self) -> None:
        self.primary, self.standby = self.standby, self.primary
        await self.primary.promote()


@pytest.fixture
async def pair(own_cluster: Path, tmp_path: Path) -> AsyncIterator[Pair]:
    first, second = Node(own_cluster), Node(tmp_path / "second")
    try:
        first.postgres.start()
        second.copy(first)
        await first.commit_on_both()
        yield Pair(first, second)
    finally:
        first.postgres.stop()
        second.postgres.stop()


async def build_succeeds(url: str, probe: str) -> None:
    async with connected(url) as owner:
        await put_in_catalogue(owner, probe)
        build = await request(owner, probe)

        async def is_over() -> bool:
            state = await owner.fetchval("SELECT state FROM builds WHERE build_id = $1", build)
            return str(state) == "succeeded"

        await eventually(is_over, f"{probe} is built", PATIENCE)


async def more_is_acknowledged(senders: list[Sender]) -> None:
    """Wait until each sender has something more acknowledged."""
    before = [len(sender.positions) for sender in senders]

    async def is_more() -> bool:
        return all(len(sender.positions) > number for sender, number in zip(senders, before, strict=True))

    await eventually(is_more, "more is acknowledged", PATIENCE)


async def is_well(client: Client) -> bool:
    return (await client.get("/__heartbeat__")).status == 200


async def logged(url: str) -> dict[str, int]:
    async with connected(url) as owner:
        rows = await owner.fetch("SELECT event_id, position FROM event_log WHERE source = 'app'")
    positions = {str(row["event_id"]): row["position"] for row in rows}
    assert len(positions) == len(rows)
    return positions


async def test_server_and_builder_go_on_and_nothing_acknowledged_is_lost(pair: Pair, start: Start) -> None:
    client = await start(ServerSettings(database_url=pair.url, visitor_secret=SECRET))
    end = asyncio.Event()
    async with client_session() as session, running_builder(pair.url, poll_seconds=0.5):
        senders = [Sender(session, [str(client.make_url("")).rstrip("/")]) for _ in range(SENDERS)]
        sending = [asyncio.create_task(sender.run(end)) for sender in senders]
        await more_is_acknowledged(senders)
        for number in range(ROUNDS):
            if number:
                await pair.renew_standby()
            for name, take_over in (("switched", pair.switch_over), ("failed", pair.fail_over)):
                await take_over()
                writable = time.monotonic()
                await more_is_acknowledged(senders)
                log.info("taken_over", how=name, seconds=round(time.monotonic() - writable, 2))
                await build_succeeds(pair.primary.url, f"{name}_{number}")
                await eventually(partial(is_well, client), "the server is well")
        end.set()
        await asyncio.gather(*sending)
    acknowledged = {key: position for sender in senders for key, position in sender.positions.items()}
    assert acknowledged.items() <= (await logged(pair.primary.url)).items()


async def test_what_is_on_the_primary_alone_is_not_acknowledged_when_it_is_sent_again(
    pair: Pair, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit whose wait for the standby is given up stays: the event is there when its client sends it again."""
    client = await start(ServerSettings(database_url=pair.url, visitor_secret=SECRET))
    await post(client, event())
    monkeypatch.setattr(appending, "APPEND_SECONDS", 0.5)
    pair.standby.kill()
    sent = event()
    assert (await client.post("/v1/events", json=sent)).status == 503

    async def is_there() -> bool:
        return sent["event_id"] in await logged(pair.primary.url)

    await eventually(is_there, "it is committed")
    assert (await client.post("/v1/events", json=sent)).status == 503
    pair.standby.postgres.start()

    async def is_acknowledged() -> bool:
        return (await client.post("/v1/events", json=sent)).status == 201

    await eventually(is_acknowledged, "it is acknowledged")
    await pair.fail_over()
    assert sent["event_id"] in await logged(pair.primary.url)
