"""Server processes that can be killed at any moment, and a client that goes on until its events are acknowledged."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from bisect import bisect
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp

from tests.conftest import SECRET
from tests.support.servers import JsonObject, event, eventually
from usage_service.local.owned_process import owned_command
from usage_service.local.ports import free_port

START_SECONDS = 40.0
STOP_SECONDS = 20.0
ACKNOWLEDGED_SECONDS = 90.0
REQUEST_SECONDS = 20.0


class ServerProcess:
    """A usage service in a process of its own, which keeps its port when it is started again."""

    def __init__(self, database_url: str, log_path: Path, environ: Mapping[str, str] | None = None) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.log_path = log_path
        own = {
            "DATABASE_URL": database_url,
            "USAGE_SERVICE_PORT": str(self._port),
            "USAGE_SERVICE_VISITOR_SECRET": SECRET,
        }
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("USAGE_SERVICE_")}
        self._environ = inherited | own | dict(environ or {})
        self._process: subprocess.Popen[bytes] | None = None

    def spawn(self, errors: int | None = None) -> None:
        """Start the process, unless it runs; what it logs goes to its file, or to the descriptor `errors`."""
        if not self.alive:
            command = owned_command([sys.executable, "-m", "usage_service", "serve"])
            with self.log_path.open("ab") as log:
                self._process = subprocess.Popen(command, env=self._environ, stdout=log, stderr=errors or log)

    async def ready(self, session: aiohttp.ClientSession) -> None:
        """Wait until it is well, and start it again when it gave up because the database was away."""

        async def well() -> bool:
            self.spawn()
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(f"{self.url}/__heartbeat__") as response:
                    return response.status == 200
            return False

        await eventually(well, f"the server is well, see {self.log_path}", START_SECONDS)

    @property
    def alive(self) -> bool:
        """Return whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def freeze(self) -> None:
        """Stop it where it is, its connections open."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """Kill it, as `kill -9` does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Let it finish what is under way; kill it when that takes too long."""
        try:
            self._end(signal.SIGTERM)
        except subprocess.TimeoutExpired:
            self.kill()

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(STOP_SECONDS)


@asynccontextmanager
async def running_servers(
    database_url: str, directory: Path, number: int, session: aiohttp.ClientSession
) -> AsyncIterator[list[ServerProcess]]:
    """Start so many servers beside one database, well at the beginning and gone at the end."""
    servers = [ServerProcess(database_url, directory / f"server-{index}.log") for index in range(number)]
    try:
        for server in servers:
            server.spawn()
        await asyncio.gather(*(server.ready(session) for server in servers))
        yield servers
    finally:
        for server in servers:
            server.stop()


class Sender:
    """Posts one batch after the other to any of the servers, each again and again until it is acknowledged."""

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str]) -> None:
        self._session = session
        self._urls = urls
        self.sent: set[str] = set()
        self.positions: dict[str, int] = {}  # of what was acknowledged
        self.acknowledged_at: list[float] = []  # when each batch was
        self.repeats = 0  # how many were recorded though the first answer was lost

    async def run(self, end: asyncio.Event) -> None:
        """Send until `end` is set and the last batch is acknowledged; now and then repeat what was sent before."""
        batch: list[JsonObject] = []
        while not end.is_set():
            before = batch[: random.randint(0, 2)]
            batch = [event(visitor=None) for _ in range(random.randint(1, 10))] + before
            await self.send(batch)

    async def send(self, batch: list[JsonObject]) -> None:
        """Send until acknowledged; fail when an event's position has changed."""
        self.sent |= {item["event_id"] for item in batch}
        answers: list[JsonObject] = []

        async def is_acknowledged() -> bool:
            answers[:] = await self._attempt(batch) or []
            return bool(answers)

        await eventually(is_acknowledged, "a batch is acknowledged", ACKNOWLEDGED_SECONDS)
        self.acknowledged_at.append(time.monotonic())
        for item in answers:
            known = self.positions.setdefault(item["event_id"], item["position"])
            assert known == item["position"], f"{item} was acknowledged with position {known} before"

    async def _attempt(self, batch: list[JsonObject]) -> list[JsonObject] | None:
        """Return the answer's items; None where a client tries again."""
        try:
            async with self._session.post(f"{random.choice(self._urls)}/v1/events", json=batch) as response:
                body = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None
        if response.status in (429, 503):
            return None
        assert response.status == 201, body
        items: list[JsonObject] = body["events"]
        self.repeats += sum(item["status"] == "duplicate" and item["event_id"] not in self.positions for item in items)
        return items


def client_session() -> aiohttp.ClientSession:
    """Return a session whose every wait is bounded."""
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS))


def acknowledged(senders: Iterable[Sender]) -> dict[str, int]:
    """Return the position of every event that was acknowledged so far."""
    return {event_id: position for sender in senders for event_id, position in sender.positions.items()}


def recovery_seconds(senders: Sequence[Sender], struck: Iterable[float]) -> list[float]:
    """Return the seconds from each moment until every sender has had a batch acknowledged after it."""
    times = [sender.acknowledged_at for sender in senders]
    return [max(each[bisect(each, moment)] for each in times) - moment for moment in struck]
