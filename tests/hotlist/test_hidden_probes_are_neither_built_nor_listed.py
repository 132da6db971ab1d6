"""Hidden probes, GLAM's and those of operators, are recorded but neither built nor listed anywhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.support.servers import Client, Connection, JsonObject, event, post, registered

Drained = Callable[[], Awaitable[None]]

EVERYWHERE = (
    "search_counts",
    "a.search_counts_b",
    "browser_search_x",
    "browser.search.in_content.urlbar",
    "event_counts",
    "browser.engagement.navigation.urlbar",
    "ipc_manager_message_size",
    "dropped_frames_proportion_extended",
    "use_counter_css",
    "use.counter.y",
    "usecounterx",
    "sqlite_store_open",
    "sqlite_store_query",
)
OF_FOG = ("fx_suggest.block_id", "metrics_search_count", "top_sites.contile_tile_id", "shopping.settings.disabled_ads")
OF_FENIX = ("characteristics.color_depth", "characteristics_video_dynamic_range", "pocket.shim")
NOWHERE = ("gc_ms", "because_counter", "sqlite_store_opened", "fx_suggest_block_id_2", "searchxcounts", "pocket_shims")
UNTIL = "until=2026-11-21T00:00:00Z"


@pytest.mark.parametrize("product", ["fog", "fenix", "firefox"])
async def test_what_glam_hides_is_hidden(database: Connection, product: str) -> None:
    own = {"fog": OF_FOG, "fenix": OF_FENIX}.get(product, ())
    for probe in (*EVERYWHERE, *OF_FOG, *OF_FENIX, "shopping.product_page_visits", *NOWHERE):
        hidden = await database.fetchval("SELECT count(*) > 0 FROM hidden_by($1, $2)", product, probe)
        both = probe == "shopping.product_page_visits" and product != "firefox"
        assert hidden == (probe in (*EVERYWHERE, *own) or both), probe


@pytest.fixture
async def viewed(client: Client, drained: Drained) -> Client:
    names = ["a_ms", "b_ms", "b_ms", "browser_search_ms", "browser_search_ms", "browser_search_ms"]
    views = [event("probe_viewed", probe=name, visitor=f"v{number}") for number, name in enumerate(names)]
    known = [registered(name) for name in ("a_ms", "b_ms", "browser_search_ms")]
    await post(client, *views, *known)
    await drained()
    return client


async def json_of(client: Client, path: str) -> JsonObject:
    answer = await client.get(path)
    assert answer.status == 200, await answer.text()
    found: JsonObject = await answer.json()
    return found


async def popular(client: Client, more: str = "") -> dict[str, int]:
    path = f"/v1/popularity?product=fog&window=3000d&{UNTIL}{more}"
    return {probe["probe"]: probe["views"] for probe in (await json_of(client, path))["probes"]}


async def hot(client: Client) -> list[str]:
    return [probe["probe"] for probe in (await json_of(client, f"/v1/hotlist?product=fog&{UNTIL}"))["probes"]]


async def asked_to_build(client: Client, probe: str) -> tuple[int, str]:
    asked = {"product": "fog", "channel": "nightly", "probe": probe}
    answer = await client.post("/v1/builds", json=asked)
    return answer.status, await answer.text()


@pytest.mark.parametrize("order", ["most", "least", "trending"])
async def test_views_of_it_are_recorded_and_listed_only_when_asked_for(viewed: Client, order: str) -> None:
    assert await popular(viewed, f"&order={order}") == {"a_ms": 1, "b_ms": 2}
    everything = await popular(viewed, f"&order={order}&hidden=true")
    assert everything == {"a_ms": 1, "b_ms": 2, "browser_search_ms": 3}
    first = await json_of(viewed, f"/v1/popularity?product=fog&window=3000d&{UNTIL}&limit=1&hidden=true&order={order}")
    second = await json_of(viewed, first["next"])
    assert len({probe["probe"] for page in (first, second) for probe in page["probes"]}) == 2


async def test_it_is_not_on_the_hot_list_nor_found(viewed: Client) -> None:
    assert await hot(viewed) == ["b_ms", "a_ms"]
    found = await (await viewed.get("/probes?product=fog&q=ms")).text()
    assert "/probes/fog/b_ms" in found
    assert "/probes/fog/browser_search_ms" not in found
    page = await (await viewed.get("/probes/fog/browser_search_ms")).text()
    assert "*browser_search*" in page
    assert "Build it" not in page


async def test_a_build_of_it_is_refused_with_the_rule(viewed: Client) -> None:
    status, text = await asked_to_build(viewed, "browser_search_ms")
    assert status == 422
    assert "browser_search_ms is hidden by the pattern *browser_search*: GLAM hides it" in text
    status, text = await asked_to_build(viewed, "browser.search.of_no_catalogue")
    assert (status, "by the pattern *browser_search*" in text) == (422, True)


async def test_operators_hide_and_show_as_events(viewed: Client, database: Connection) -> None:
    answer = await viewed.put("/v1/hidden/b_*?product=fog", json={"reason": "too dear"})
    assert answer.status == 200, await answer.text()
    position = int(answer.headers["Log-Position"])
    assert await popular(viewed) == {"a_ms": 1}
    assert await hot(viewed) == ["a_ms"]
    status, text = await asked_to_build(viewed, "b_ms")
    assert (status, "hidden by the pattern b_*: too dear" in text) == (422, True)
    again = await viewed.put("/v1/hidden/b_*?product=fog", json={"reason": "too dear"})
    assert (again.status, "Log-Position" in again.headers) == (200, False)
    listed = (await json_of(viewed, "/v1/hidden?product=fog"))["patterns"]
    own = {"pattern": "b_*", "product": "fog", "reason": "too dear", "source": "app", "log_position": position}
    assert own in listed
    assert len(listed) > 20

    assert (await viewed.delete("/v1/hidden/b_*?product=fog")).status == 204
    assert (await viewed.delete("/v1/hidden/b_*?product=fog")).status == 404
    assert await popular(viewed) == {"a_ms": 1, "b_ms": 2}
    assert await hot(viewed) == ["b_ms", "a_ms"]
    assert (await asked_to_build(viewed, "b_ms"))[0] == 202
    rows = await database.fetch("SELECT type, product, data->>'pattern' FROM event_log WHERE type LIKE 'probes%'")
    assert [tuple(row) for row in rows] == [("probes_hidden", "fog", "b_*"), ("probes_shown", "fog", "b_*")]


@pytest.mark.parametrize("path", ["/v1/hidden/b_*?product=foq", "/v1/hotlist/rules/foq/b_ms"])
async def test_a_product_that_nothing_is_known_of_is_refused(viewed: Client, database: Connection, path: str) -> None:
    response = await viewed.put(path, json={"rule": "pinned"} if "rules" in path else {})
    refused = {"parameter": "product", "detail": "nothing is known of product foq; did you mean fog?"}
    assert (response.status, (await response.json())["errors"]) == (422, [refused])
    assert not await database.fetch("SELECT FROM event_log WHERE product = 'foq'")


async def test_a_backtest_is_another_once_something_is_hidden(viewed: Client, drained: Drained) -> None:
    await post(viewed, event("probe_viewed", probe="a_ms", visitor="later", occurred_at="2026-11-22T10:00:00Z"))
    await drained()
    place = "/v1/hotlist/backtest?product=fog&nights=2&until=2026-11-23"
    before = await viewed.get(place)
    assert before.status == 200, await before.text()
    assert (await viewed.put("/v1/hidden/b_*?product=fog", json={})).status == 200
    assert (await viewed.get(place, headers={"If-None-Match": before.headers["ETag"]})).status == 200


async def test_operators_may_show_what_glam_hides(viewed: Client) -> None:
    assert (await viewed.delete("/v1/hidden/*browser_search*")).status == 204
    assert await popular(viewed) == {"a_ms": 1, "b_ms": 2, "browser_search_ms": 3}
    assert (await asked_to_build(viewed, "browser_search_ms"))[0] == 202


@pytest.mark.parametrize("pattern", ["***", "B_MS", "a-b", "x" * 256, "a%25b", "%F0%9F%98%80"])
async def test_a_pattern_names_something(viewed: Client, pattern: str) -> None:
    answer = await viewed.put(f"/v1/hidden/{pattern}", json={})
    assert answer.status == 422
    assert "pattern" in await answer.text()
