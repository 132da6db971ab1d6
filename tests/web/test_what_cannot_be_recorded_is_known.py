"""Within five seconds heartbeat and metrics know that events cannot be recorded, whether somebody posts or not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import cast

import msgspec
import pytest

from tests.conftest import SECRET, Start
from tests.support.proxy import proxied
from tests.support.servers import Client, Connection, connected, drained_projections, event, eventually, post
from usage_service.ingest import recording_health
from usage_service.ingest.recording_health import PROBE_SECONDS, TIMEOUT_SECONDS, RecordingHealth
from usage_service.shared.postgres import Pool
from usage_service.shared.settings import ServerSettings
from usage_service.web.api import health as health_routes
from usage_service.web.api import metrics

Fault = Callable[[str], AbstractAsyncContextManager[None]]
TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()"


@asynccontextmanager
async def read_only(url: str) -> AsyncIterator[None]:
    """Make the database read-only for new sessions, as a demoted primary is."""
    async with connected(url) as owner:
        name = await owner.fetchval("SELECT current_database()")
        await owner.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await owner.execute(TERMINATE, name)
        yield
        await owner.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")


@asynccontextmanager
async def log_is_locked(url: str) -> AsyncIterator[None]:
    """Hold the lock of the log."""
    async with connected(url) as owner, owner.transaction():
        await owner.execute("SELECT lock_event_log()")
        yield


@asynccontextmanager
async def no_space(url: str) -> AsyncIterator[None]:
    """Fill the disk: refuse every write with PostgreSQL's own error."""
    async with connected(url) as owner:
        await owner.execute("""
            CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
            END $$;
            CREATE TRIGGER no_space BEFORE INSERT ON event_log EXECUTE FUNCTION no_space();
            CREATE TRIGGER no_space BEFORE UPDATE ON recording_probe EXECUTE FUNCTION no_space();
        """)
        yield
        await owner.execute("DROP FUNCTION no_space CASCADE")


@asynccontextmanager
async def sequence_is_behind(url: str) -> AsyncIterator[None]:
    """Leave the sequence of positions behind the log, as a careless restore does."""
    async with connected(url) as owner:
        for _ in range(3):
            await owner.execute("SELECT append_own_event('events_moved', NULL, NULL, NULL, 'tests', '{}')")
        await owner.execute("SELECT setval('event_position', 1)")
        yield
        await owner.execute("SELECT setval('event_position', last_position())")


FAULTS: list[Fault] = [read_only, log_is_locked, no_space, sequence_is_behind]


@pytest.fixture
async def client(own_database_url: str, start: Start) -> Client:
    return await start(ServerSettings(database_url=own_database_url, visitor_secret=SECRET))


async def recording(client: Client) -> str:
    body = await (await client.get("/__heartbeat__")).json()
    return str(body["checks"]["recording"])


def known(client: Client) -> Callable[[], Awaitable[bool]]:
    async def is_known() -> bool:
        response = await client.get("/__heartbeat__")
        return response.status == 503 and "cannot be recorded" in await recording(client)

    return is_known


async def failing_seconds(client: Client) -> float:
    text = await (await client.get("/metrics")).text()
    found = re.search(r"^glam_recording_failing_seconds (\S+)$", text, re.MULTILINE)
    assert found
    return float(found[1])


def test_it_is_known_within_five_seconds() -> None:
    assert PROBE_SECONDS + TIMEOUT_SECONDS < 5


async def test_a_probe_is_made_as_soon_as_nothing_was_recorded_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that is recorded just after a look at the clock does not put the probe off by a round."""
    clock = Clock()
    monkeypatch.setattr(recording_health, "asyncio", clock)
    monkeypatch.setattr(recording_health, "time", clock)
    health = clock.health = ClockedHealth(clock)
    health.succeed()
    with pytest.raises(asyncio.CancelledError):
        await health.run()
    assert clock.now == pytest.approx(clock.recorded_at + PROBE_SECONDS)


class Clock:
    """A clock that goes on when somebody sleeps, and at whose first second an event is recorded."""

    now = 1_000.0
    recorded_at = 1_001.0
    health: RecordingHealth

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        then = self.now + seconds
        if self.now < self.recorded_at <= then:
            self.now = self.recorded_at
            self.health.succeed()
        self.now = then


class ClockedHealth(RecordingHealth):
    """A health that ends with its first probe."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(cast(Pool, None))
        self.clock = clock

    async def _probe(self) -> None:
        raise asyncio.CancelledError


@pytest.mark.parametrize("posting", [False, True])
async def test_a_database_that_answers_nothing_any_more_is_known(
    posting: bool, start: Start, settings: ServerSettings, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is stopped (SIGSTOP): its connections are there, and every answer is waited for."""
    monkeypatch.setattr(recording_health, "PROBE_SECONDS", 0.3)
    monkeypatch.setattr(recording_health, "TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(health_routes, "DATABASE_SECONDS", 0.5)
    monkeypatch.setattr(metrics, "SCRAPE_SECONDS", 0.5)
    async with proxied(database_url) as (proxy, url):
        client = await start(msgspec.structs.replace(settings, database_url=url))
        await post(client, event())
        proxy.swallow()
        posts = [asyncio.create_task(client.post("/v1/events", json=event())) for _ in range(3 * posting)]
        async with asyncio.timeout(15):  # the pool would wait for half a minute
            await eventually(known(client), "the heartbeat says so")
            assert await failing_seconds(client) > 0
        proxy.restore()
        await asyncio.gather(*posts)

        async def is_well() -> bool:
            return await recording(client) == "ok"

        await eventually(is_well, "the heartbeat is well again")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_it_is_known_though_nobody_posts_and_over_when_the_fault_is(
    fault: Fault, client: Client, own_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording_health, "PROBE_SECONDS", 0.3)
    monkeypatch.setattr(recording_health, "TIMEOUT_SECONDS", 1.0)
    assert await recording(client) == "ok"
    assert await failing_seconds(client) == 0
    async with fault(own_database_url):
        await eventually(known(client), "the heartbeat says so")
        assert await failing_seconds(client) > 0

    async def is_well() -> bool:
        return (await client.get("/__heartbeat__")).status == 200

    await eventually(is_well, "the heartbeat is well again")
    assert await failing_seconds(client) == 0

    async def records() -> bool:  # a connection that the fault ended may be found only when it is used
        return (await client.post("/v1/events", json=[event()])).status == 201

    await eventually(records, "events are recorded")


async def test_a_post_that_fails_is_known_at_once(client: Client, own_database_url: str) -> None:
    await post(client, event())
    async with no_space(own_database_url):
        assert (await client.post("/v1/events", json=[event()])).status == 503
        assert "No space left on device" in await recording(client)
    await post(client, event())
    assert await recording(client) == "ok"


async def test_what_is_wrong_with_the_database_is_not_said_of_the_event(
    client: Client, own_database: Connection
) -> None:
    """A client throws away what is refused: 422 is for an event's own content alone."""
    await post(client, *(event() for _ in range(200)))
    await own_database.execute("SELECT setval('event_position', 1)")  # as a careless restore leaves it
    sent = event()
    response = await client.post("/v1/events", json=[sent, event()])
    assert response.status == 503
    assert "behind the log" in await recording(client)
    await own_database.execute("SELECT setval('event_position', last_position())")
    [item] = await post(client, sent)  # known as well at once, by the commit
    assert (item["status"], item["position"]) == ("recorded", 201)
    assert await recording(client) == "ok"


async def test_no_position_is_drawn_that_readers_have_passed(client: Client, own_database: Connection) -> None:
    """Also where the log has a gap, in which the sequence would find positions that are free."""
    await post(
        client, event(), event(), event("probe_registered", probe="gc_ms", visitor=None, data={"type": "counter"})
    )
    await drained_projections(own_database)
    await own_database.execute("SELECT setval('event_position', 100)")
    await post(client, event())
    for behind in (1, 3, 50, 99):
        await own_database.execute("SELECT setval('event_position', $1)", behind)
        asked = {"product": "fog", "channel": "nightly", "probe": "gc_ms"}
        for path, body in [("/v1/events", [event()]), ("/v1/events", [event(), event()]), ("/v1/builds", asked)]:
            response = await client.post(path, json=body)
            assert response.status == 503, await response.text()
            assert response.headers["Retry-After"]
    assert await own_database.fetchval("SELECT array_agg(position ORDER BY position) FROM event_log") == [1, 2, 3, 101]
    assert await own_database.fetchval("SELECT count(*) FROM builds") == 0


ONE_NEW_EVENT = """
SELECT append_new_events(ARRAY[gen_random_uuid()], '{1}', ARRAY[now()], '{null}', '{null}', '{"{}"}',
                         ARRAY[gen_random_uuid()], '{x_note}', '{1}', '{null}', '{null}', '{tests}', '{}', '{}')
"""
NO_EVENT = "SELECT * FROM append_events({}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {})".replace("{}", "'{}'")


@pytest.mark.parametrize("appending", [NO_EVENT, ONE_NEW_EVENT])
@pytest.mark.parametrize("weaker", ["off", "local"])
async def test_what_is_acknowledged_is_durable_whatever_is_set(
    own_database: Connection, weaker: str, appending: str
) -> None:
    await own_database.execute("SELECT set_config('synchronous_commit', $1, false)", weaker)
    async with own_database.transaction():
        assert await own_database.fetchval("SHOW synchronous_commit") == weaker
        await own_database.execute(appending)
        assert await own_database.fetchval("SHOW synchronous_commit") == "on"  # until the commit
    assert await own_database.fetchval("SHOW synchronous_commit") == weaker


@pytest.mark.parametrize("stronger", ["on", "remote_apply"])
async def test_a_stronger_promise_stays(own_database: Connection, stronger: str) -> None:
    await own_database.execute("SELECT set_config('synchronous_commit', $1, false)", stronger)
    async with own_database.transaction():
        await own_database.execute("SELECT lock_event_log()")
        assert await own_database.fetchval("SHOW synchronous_commit") == stronger


async def test_events_that_are_refused_outweigh_a_probe_that_works(
    own_database_url: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk a probe may still find room where it wrote before, and events may not."""
    monkeypatch.setattr(recording_health, "PROBE_SECONDS", 0.1)
    client = await start(ServerSettings(database_url=own_database_url, visitor_secret=SECRET))

    async def has_failed_for_a_second() -> bool:
        assert (await client.post("/v1/events", json=[event()])).status == 503
        return await failing_seconds(client) > 1

    async with connected(own_database_url) as owner:
        await owner.execute(NO_ROOM_FOR_EVENTS)
        await eventually(has_failed_for_a_second, "it fails on and on")
        await owner.execute("DROP FUNCTION no_room() CASCADE")
        monkeypatch.setattr(recording_health, "COMMIT_COUNTS_SECONDS", 0.1)

    async def is_well() -> bool:
        return await recording(client) == "ok"

    await eventually(is_well, "the probe counts where nobody posts any more")


NO_ROOM_FOR_EVENTS = """
CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
END $$;
CREATE TRIGGER no_room BEFORE INSERT ON event_log FOR EACH STATEMENT EXECUTE FUNCTION no_room();
"""
