"""Rules of operators: pinned probes are listed first, excluded ones neither listed nor built; each is an event."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.support.servers import Client, Connection, JsonObject, event, post, registered

RULES = "/v1/hotlist/rules"
UNTIL = "until=2026-11-21T00:00:00Z"
Drained = Callable[[], Awaitable[None]]


@pytest.fixture
async def viewed(client: Client, drained: Drained) -> Client:
    names = ["a_ms", "b_ms", "b_ms", "c_ms", "c_ms", "c_ms"]
    views = [event("probe_viewed", probe=name, visitor=f"v{number}") for number, name in enumerate(names)]
    known = [registered(name, occurred_at="2026-01-01T00:00:00Z") for name in ("a_ms", "b_ms", "c_ms", "never_ms")]
    await post(client, *views, *known)
    await drained()
    return client


async def listed(client: Client, more: str = "") -> list[JsonObject]:
    answer = await client.get(f"/v1/hotlist?product=fog&{UNTIL}{more}")
    probes: list[JsonObject] = (await answer.json())["probes"]
    return probes


async def put(client: Client, probe: str, rule: str, reason: str = "") -> int:
    answer = await client.put(f"{RULES}/fog/{probe}", json={"rule": rule, "reason": reason})
    assert answer.status == 200, await answer.text()
    return int(answer.headers.get("Log-Position", 0))


async def test_what_is_pinned_comes_first_and_what_is_excluded_not_at_all(viewed: Client) -> None:
    assert [one["probe"] for one in await listed(viewed)] == ["c_ms", "b_ms", "a_ms"]
    await put(viewed, "a_ms", "pinned", "the release meeting looks at it")
    await put(viewed, "never_ms", "pinned")
    await put(viewed, "unheard_of_ms", "pinned")
    await put(viewed, "c_ms", "excluded")
    found = await listed(viewed)
    assert [one["probe"] for one in found] == ["unheard_of_ms", "a_ms", "never_ms", "b_ms"]
    reason = found[1]["reasons"][0]
    assert (reason["name"], reason["value"]) == ("pinned", 0.0)
    assert reason["text"].startswith("pinned by app on ")
    assert reason["text"].endswith(": the release meeting looks at it")
    assert [one["probe"] for one in await listed(viewed, "&budget=2")] == ["unheard_of_ms", "a_ms"]
    assert [one["probe"] for one in await listed(viewed, "&coverage=0.01")] == ["unheard_of_ms", "a_ms", "never_ms"]
    for probe in ("a_ms", "never_ms", "unheard_of_ms", "c_ms"):
        assert (await viewed.delete(f"{RULES}/fog/{probe}")).status == 204
    assert [one["probe"] for one in await listed(viewed)] == ["c_ms", "b_ms", "a_ms"]


async def test_a_rule_is_an_event_once(viewed: Client, database: Connection) -> None:
    position = await put(viewed, "a_ms", "pinned", "why")
    assert await put(viewed, "a_ms", "pinned", "why") == 0
    await put(viewed, "a_ms", "excluded")
    await viewed.delete(f"{RULES}/fog/a_ms")
    assert (await viewed.delete(f"{RULES}/fog/a_ms")).status == 404
    await put(viewed, "a_ms", "pinned")
    await viewed.delete(f"{RULES}/fog/a_ms")
    rows = await database.fetch(
        "SELECT position, type, probe, source, data FROM event_log WHERE data ? 'reason' ORDER BY position"
    )
    assert [row["type"] for row in rows] == [
        "probe_pinned", "probe_excluded", "probe_included", "probe_pinned", "probe_unpinned",
    ]  # fmt: skip
    assert (rows[0]["position"], rows[0]["probe"], rows[0]["data"]) == (position, "a_ms", {"reason": "why"})


async def test_rules_are_listed(viewed: Client) -> None:
    position = await put(viewed, "b_ms", "excluded", "too large")
    [rule] = (await (await viewed.get(f"{RULES}?product=fog")).json())["rules"]
    assert rule.pop("since")
    assert rule == {
        "product": "fog", "probe": "b_ms", "rule": "excluded", "reason": "too large", "source": "app",
        "log_position": position,
    }  # fmt: skip
    assert (await (await viewed.get(f"{RULES}?product=fenix")).json())["rules"] == []


async def test_an_excluded_probe_is_not_built_until_it_is_included(viewed: Client) -> None:
    wanted = {"product": "fog", "channel": "nightly", "probe": "b_ms"}
    await put(viewed, "b_ms", "excluded")
    refused = await viewed.post("/v1/builds", json=wanted)
    assert (refused.status, (await refused.json())["errors"][0]["pointer"]) == (422, "/probe")
    await viewed.delete(f"{RULES}/fog/b_ms")
    assert (await viewed.post("/v1/builds", json=wanted)).status == 202


async def test_nobody_posts_such_an_event_themselves(client: Client) -> None:
    answer = await client.post("/v1/events", json=[event("probe_pinned", probe="a_ms", data={"reason": ""})])
    assert answer.status == 422
    assert "written by the service itself" in await answer.text()


@pytest.mark.parametrize(
    ("path", "body", "wrong"),
    [
        ("fog/a_ms", {"rule": "loved"}, "/rule"),
        ("fog/a_ms", {}, "/rule"),
        ("fog/a_ms", {"rule": "pinned", "reason": "x" * 501}, "/reason"),
        ("fog/a_ms", {"rule": "pinned", "because": ""}, "/because"),
        ("FOG/a_ms", {"rule": "pinned"}, "product"),
        ("fog/a%20b", {"rule": "pinned"}, "probe"),
    ],
)
async def test_a_wrong_rule_is_named(client: Client, path: str, body: JsonObject, wrong: str) -> None:
    answer = await client.put(f"{RULES}/{path}", json=body)
    error = (await answer.json())["errors"][0]
    assert (answer.status, error.get("pointer") or error["parameter"]) == (422, wrong)
