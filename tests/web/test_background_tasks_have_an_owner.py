"""A background task that ends is noticed, whatever ended it; at shutdown all tasks are cancelled."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
import msgspec
import pytest
from structlog.testing import capture_logs

from tests.support.servers import Client, Connection, event, eventually
from usage_service.ingest.appending import Record
from usage_service.ingest.group_commit import Announcer, Ingest, LogUnavailableError
from usage_service.shared.postgres import open_pool
from usage_service.shared.settings import ServerSettings
from usage_service.shared.tasks import Tasks
from usage_service.web.server import serve


async def ends() -> None:
    return None


async def raises() -> None:
    raise RuntimeError("forced")


async def cancels() -> None:
    raise asyncio.CancelledError


async def stays() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("work", "event_name"), [(ends, "background_task_ended"), (raises, "background_task_died"), (cancels, None)]
)
async def test_a_task_that_ends_is_noticed(work: object, event_name: str | None) -> None:
    died = asyncio.Event()
    with capture_logs() as logged:
        async with Tasks(died.set) as tasks, asyncio.timeout(10):
            tasks.start("staying", stays())
            assert callable(work)
            tasks.start("ending", work())
            await died.wait()
    assert [(entry["event"], entry["task"]) for entry in logged] == ([(event_name, "ending")] if event_name else [])


async def test_the_end_cancels_all_and_is_not_a_death() -> None:
    deaths: list[bool] = []
    ended: list[str] = []

    async def staying(name: str) -> None:
        try:
            await stays()
        finally:
            ended.append(name)

    async with Tasks(lambda: deaths.append(True)) as tasks:
        for name in ("one", "two"):
            tasks.start(name, staying(name))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert sorted(ended) == ["one", "two"]
    assert not deaths


async def test_the_end_waits_until_a_task_has_put_its_things_away() -> None:
    done: list[bool] = []
    began = asyncio.Event()

    async def slow() -> None:
        try:
            began.set()
            await stays()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            done.append(True)

    async with Tasks(lambda: None) as tasks:
        tasks.start("slow", slow())
        await began.wait()
    assert done == [True]


async def test_a_queue_that_nobody_empties_any_more_takes_nothing(database_url: str) -> None:
    async with open_pool(database_url, role="usage_server", application="tests", size=1) as pool:
        ingest = Ingest(pool, 1_000, lambda: None)
        task = asyncio.create_task(ingest.run())
        waiting = asyncio.create_task(ingest.submit([record()]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(LogUnavailableError):
            await waiting
        with pytest.raises(LogUnavailableError):
            async with asyncio.timeout(10):
                await ingest.submit([record()])


def record() -> Record:
    return Record(uuid4(), "x_a", 1, datetime.now(UTC), None, None, None, None, "tests", msgspec.Raw(b"{}"), uuid4())


async def test_a_hint_that_cannot_be_sent_does_not_end_the_announcer(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object, **named: object) -> None:
        raise asyncpg.ProgramLimitExceededError("too many notifications in the NOTIFY queue")

    async with open_pool(database_url, role="usage_server", application="tests", size=1) as pool:
        announcer = Announcer(pool)
        task = asyncio.create_task(announcer.run())
        monkeypatch.setattr(asyncpg.Pool, "acquire", full)
        with capture_logs() as logged:
            announcer.announce()

            async def told() -> bool:
                return any(entry["event"] == "hint_not_sent" for entry in logged)

            await eventually(told, "the failure is logged")
        monkeypatch.undo()
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_server_whose_task_dies_ends_and_says_so(
    settings: ServerSettings, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    async def die(self: Announcer) -> None:
        raise RuntimeError("forced")

    monkeypatch.setattr(Announcer, "run", die)
    served = ServerSettings(
        database_url=settings.database_url, visitor_secret=settings.visitor_secret, port=unused_tcp_port
    )
    async with asyncio.timeout(30):
        assert await serve(served) is False


async def test_an_unexpected_refusal_of_the_database_is_not_the_end(client: Client, database: Connection) -> None:
    await database.execute("ALTER FUNCTION append_new_events RENAME TO append_away")
    try:
        response = await client.post("/v1/events", json=[event()])
        assert response.status == 503
    finally:
        await database.execute("ALTER FUNCTION append_away RENAME TO append_new_events")
    assert (await client.post("/v1/events", json=[event()])).status == 201
