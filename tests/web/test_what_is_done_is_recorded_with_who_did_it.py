"""Whatever a caller does is in the log under the name of its token, whichever route it took."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args
from uuid import UUID

import pytest

from tests.support.building import bring_to, served
from tests.support.servers import Client, Connection, JsonObject, drained_projections, event, registered
from usage_service.tokens import FEED, TokenScope, create_token
from usage_service.web.api.routes import ROUTES

OWN = "the operator's own token"
NIGHTLY = {"product": "fog", "channel": "nightly"}
RULE, HIDDEN = "/v1/hotlist/rules/{product}/{probe}", "/v1/hidden/{pattern}"
BUILD, NIGHT = "/v1/builds/{build_id}", "/v1/nights/{night_id}"
VIEW = {"product": "fog", "app_id": "nightly", "ping_type": "*", "probe": "gc_ms", "aggregationLevel": "version"}
# Restored events keep who sent them; the others write no event.
OF_NOBODY = {("POST", "/v1/events/restore"), ("POST", "/v1/hotlist"), ("POST", "/api/v1/labels/")}


class Caller:
    """Caller with a token, which remembers the routes that it took."""

    def __init__(self, client: Client, token: str) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {token}"}
        self.taken: set[tuple[str, str]] = set()

    async def send(self, method: str, route: str, body: JsonObject | None = None, **named: str) -> JsonObject:
        """Send a request and return the answer's body."""
        self.taken.add((method, route))
        path = route.format(product="fog", probe="gc_ms", pattern="slow*", **named)
        response = await self._client.request(method, path, json=body, headers=self._headers, allow_redirects=False)
        assert response.status in (200, 201, 202, 204, 404), await response.text()
        return {} if response.status == 204 else dict(await response.json())


async def do_everything(caller: Caller, database: Connection) -> None:
    """Take every route that writes an event."""
    for one in (registered("gc_ms"), registered("slow_ms"), event("probe_viewed")):
        await caller.send("POST", "/v1/events", one)
    await drained_projections(database)
    await caller.send("POST", "/api/v1/data/", {"query": VIEW})
    await caller.send("PUT", RULE, {"rule": "pinned", "reason": "why"})
    await caller.send("DELETE", RULE)
    await caller.send("PUT", RULE, {"rule": "pinned", "reason": "why"})
    await caller.send("PUT", HIDDEN, {"reason": "why"})
    await caller.send("DELETE", HIDDEN)
    await caller.send("PUT", HIDDEN, {"reason": "why"})
    build = await caller.send("POST", "/v1/builds", NIGHTLY | {"probe": "gc_ms"})
    await bring_to(database, UUID(build["build_id"]), "failed")
    await caller.send("POST", f"{BUILD}/retry", build_id=build["build_id"])
    await caller.send("DELETE", BUILD, build_id=build["build_id"])
    await caller.send("POST", "/v1/builds", NIGHTLY | {"probe": "gc_ms"})
    later = datetime.now(UTC) + timedelta(hours=1)
    report = NIGHTLY | {"built_at": later.isoformat(), "probes": ["gc_ms"]}
    assert (await caller.send("POST", "/v1/hotlist/built", report))["builds_ended"] == 1
    night = await caller.send("POST", "/v1/builds/prefetch", NIGHTLY | {"probes": ["gc_ms"]})
    await caller.send("DELETE", NIGHT, night_id=night["night_id"])


@pytest.mark.parametrize("name", ["br-admin", "app"])
async def test_every_event_has_the_name_of_the_token(database_url: str, database: Connection, name: str) -> None:
    async with served(database_url, token=OWN) as client:
        scopes: list[TokenScope] = [scope for scope in get_args(TokenScope) if scope != FEED]
        token = OWN if name == "app" else await create_token(database, name, scopes, timedelta(days=1))
        caller = Caller(client, token)
        await do_everything(caller, database)
        rules = (await caller.send("GET", "/v1/hotlist/rules"))["rules"]
        hidden = (await caller.send("GET", "/v1/hidden"))["patterns"]
    assert caller.taken | OF_NOBODY >= {(route.method, route.path) for route in ROUTES if route.method != "GET"}
    rows = await database.fetch("SELECT type, source FROM event_log ORDER BY position")
    done = [row for row in rows if row["type"] not in ("build_started", "build_failed")]  # by a builder
    assert {row["source"] for row in done} == {name}
    assert {row["type"] for row in done} >= {
        "probe_pinned", "probe_unpinned", "probes_hidden", "probes_shown", "build_requested", "build_cancelled",
        "probe_built", "night_ended", "probe_viewed",
    }  # fmt: skip
    assert [one["source"] for one in rules] == [name]
    assert [one["source"] for one in hidden if one["pattern"] == "slow*"] == [name]
