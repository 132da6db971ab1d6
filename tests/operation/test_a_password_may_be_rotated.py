"""A login's password may be changed under running programs: they say so, go on trying, and go on without a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import SECRET, Start
from tests.support.builders import put_in_catalogue, request, running_builder, until_state
from tests.support.servers import Client, Connection, event, eventually, post
from usage_service.shared.settings import ServerSettings


class Login:
    """A login role, and the file that has its password."""

    def __init__(self, owner: Connection, url: str, name: str, path: Path) -> None:
        parts = urlsplit(url)
        self._owner, self._path, self.name = owner, path, name
        self._place = f"{parts.hostname}:{parts.port}:*:{name}"
        self.url = f"postgresql://{name}@{parts.hostname}:{parts.port}{parts.path}?passfile={path}"

    async def set_password(self, password: str) -> None:
        await self._owner.execute(f"ALTER ROLE {self.name} PASSWORD '{password}'")

    def write(self, password: str) -> None:
        self._path.touch(mode=0o600)
        self._path.write_text(f"{self._place}:{password}\n")

    async def end_sessions(self) -> None:
        """End its sessions, so that all have to log in anew."""
        await self._owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", self.name
        )


@pytest.fixture
async def login(
    own_database: Connection, own_database_url: str, worker_id: str, tmp_path: Path
) -> AsyncIterator[Login]:
    name = f"glam_rotated_{worker_id}"
    await own_database.execute(f"CREATE ROLE {name} LOGIN IN ROLE usage_server, usage_builder")
    made = Login(own_database, own_database_url, name, tmp_path / "pgpass")
    await made.set_password("the first")
    made.write("the first")
    yield made
    await made.end_sessions()
    await own_database.execute(f"DROP ROLE {name}")


@pytest.fixture
async def client(login: Login, start: Start) -> Client:
    return await start(ServerSettings(database_url=login.url, visitor_secret=SECRET))


async def checks(client: Client) -> dict[str, str]:
    answer = await (await client.get("/__heartbeat__")).json()
    return dict(answer["checks"])


async def records(client: Client) -> bool:
    return (await client.post("/v1/events", json=[event()])).status == 201


async def test_sessions_stay_while_the_file_and_the_role_are_changed(client: Client, login: Login) -> None:
    """They were logged in with the old password. Only what needs a new one between the two changes has to try again."""
    for number in range(5):
        login.write(f"password {number}")
        await eventually(partial(records, client), "events are recorded before the role's password is changed")
        await login.set_password(f"password {number}")
        await eventually(partial(records, client), "events are recorded after it")
    await login.end_sessions()
    await eventually(partial(records, client), "events are recorded with the new password")


async def test_with_the_old_password_they_say_so_and_go_on_trying(
    client: Client, login: Login, own_database: Connection
) -> None:
    await post(client, event())
    async with running_builder(login.url, poll_seconds=0.2):
        await login.set_password("the second")

        async def is_known() -> bool:
            await login.end_sessions()  # one that was logging in meanwhile, with the old password, included
            said = await checks(client)
            return "password" in said["recording"] and said["listener"] == "not connected"

        await eventually(is_known, "the heartbeat says so")
        for method, path in (("GET", "/v1/popularity"), ("POST", "/v1/events")):
            answer = await client.request(method, path, json=[event()] if method == "POST" else None)
            assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        await put_in_catalogue(own_database, "gc_ms")
        await request(own_database, "gc_ms")
        login.write("the second")

        async def is_well() -> bool:
            return (await client.get("/__heartbeat__")).status == 200

        await eventually(is_well, "the server is well")
        await post(client, event())
        await until_state(own_database, "succeeded")
