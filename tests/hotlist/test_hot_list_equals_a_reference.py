"""Hot lists are what plain Python makes of the requests: for any history, over HTTP, and on real traffic."""

from __future__ import annotations

import csv
import random
from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings

from tests.support.hot_reference import DEFAULT, Name, Reference, Request
from tests.support.hot_traffic import (
    DAYS,
    FIRST,
    NAMES,
    REGISTERED,
    REQUESTS,
    as_event,
    counts,
    in_batches,
    registration,
)
from tests.support.servers import Client, Connection, JsonObject, event, post, registered, rounds, shared_file
from usage_service.hotlist.backtest.files import read_counts
from usage_service.hotlist.backtest.replaying import nights_of
from usage_service.hotlist.learning import Night
from usage_service.hotlist.reasons import SHOWN_DECIMALS
from usage_service.imports.importing import import_file

Drained = Callable[[], Awaitable[None]]
TRAFFIC = shared_file("web_traffic.ndjson.gz")
LAST = FIRST + timedelta(days=DAYS - 1)
TARGET = LAST + timedelta(days=1)
UNTIL = f"until={LAST + timedelta(days=1)}T00:00:00Z"


async def asked(client: Client, query: str) -> JsonObject:
    response = await client.get(f"/v1/hotlist?{query}")
    body: JsonObject = await response.json()
    assert response.status == 200, body
    return body


def made(seed: int, number: int, names: list[Name] = NAMES, moves: int = 0) -> list[Request]:
    """Make requests over all days, for a few probes more than for others; on each weekday others by `moves` names."""
    dice = random.Random(seed)
    found = []
    for _ in range(number):
        day, place = dice.randrange(DAYS), min(dice.randrange(len(names)), dice.randrange(len(names)))
        name = names[(place + day % 7 * moves) % len(names)]
        visitor = dice.choice(["ann", "bob", "cid", "dan", "eve", None])
        found.append(Request(FIRST + timedelta(days=day), name, visitor, dice.random() < 0.8))
    return found


def of_service(requests: list[Request], known: dict[Name, date]) -> Night:
    """Return the service's night after all days."""
    [night] = nights_of(counts(requests, known), [DAYS])
    return night


def assert_equal(requests: list[Request], known: dict[Name, date]) -> Night:
    """Compare the service's list after all days with the reference, rules, order and scores."""
    night, reference = of_service(requests, known), Reference(requests, known)
    rules = [(rule.expert, rule.additions) for rule in night.learned.evidence.rules()]
    assert rules == list(reference.rules(TARGET))
    expected = reference.listed(TARGET)
    assert [tuple(night.columns.probes[column]) for column in night.order] == [name for name, _ in expected]
    assert night.place_scores.tolist() == pytest.approx([score for _, score in expected], abs=1e-7)
    return night


@given(REQUESTS, REGISTERED)
@settings(max_examples=rounds(3), deadline=None)
def test_any_history_is_listed_as_in_the_reference(requests: list[Request], known: dict[Name, date]) -> None:
    if requests:
        assert_equal(requests, known)


def test_what_is_learned_is_that_of_the_reference() -> None:
    """Each weekday has its own probes, so that other rules than the default lead, with additions."""
    names = [("fog", f"{first}_{second}_{number}") for first in ("gc", "net") for second in "xy" for number in range(7)]
    dice = random.Random(2)
    known = {name: FIRST + timedelta(days=dice.randrange(-30, DAYS)) for name in names[1:]}
    night = assert_equal(made(1, 800, names, moves=4), known)
    assert {rule.expert for rule in night.rules} != {DEFAULT}
    assert {"weekday"} <= {addition for rule in night.rules for addition in rule.additions}


def test_what_nobody_viewed_is_listed_as_in_the_reference() -> None:
    """Each day the probes of an area that were registered the day before are viewed; other new ones never are."""
    viewed = [("fog", f"gc_{day}") for day in range(DAYS + 1)]
    never = [("fog", f"old.{number}") for number in range(8)]
    known = {name: FIRST + timedelta(days=day - 1) for names in (viewed, never) for day, name in enumerate(names)}
    requests = [
        Request(FIRST + timedelta(days=day), name, f"v{visit}", True)
        for day, name in enumerate(viewed[:DAYS])
        for visit in range(12)
    ]
    night = assert_equal(requests, known)
    assert {night.columns.probes[column] for column in night.order if not night.seen[column]} >= {viewed[-1]}


@given(REQUESTS, REGISTERED)
@settings(max_examples=rounds(10), deadline=None)
def test_coverage_rises_to_at_most_all(requests: list[Request], known: dict[Name, date]) -> None:
    shares = of_service(requests, known).coverage.tolist()
    assert all(0.0 <= one <= other <= 1.0 for one, other in pairwise([0.0, *shares]))


async def test_the_answer_is_that_of_the_reference_however_the_log_grows(client: Client, drained: Drained) -> None:
    """The days kept in memory are brought up to date by late events, too, and agree with those read at once."""
    known = {name: FIRST + timedelta(days=3 * number) for number, name in enumerate(NAMES)}
    await post(client, *(registration(name, day) for name, day in known.items()))
    requests: list[Request] = []
    for seed in range(3):
        more = made(seed, 150)
        requests += more
        for batch in in_batches([as_event(request) for request in more]):
            await post(client, *batch)
        await drained()
        body = await asked(client, f"product=fog&{UNTIL}&budget=5")
        expected = Reference(requests, known).listed(TARGET)[:5]
        assert [(one["product"], one["probe"]) for one in body["probes"]] == [name for name, _ in expected]
        for one, (_, score) in zip(body["probes"], expected, strict=True):
            assert one["score"] == pytest.approx(score, abs=2e-6)
            total = sum(reason["value"] for reason in one["reasons"])
            assert total == pytest.approx(one["score"], abs=1e-5)
            assert all(reason["text"] for reason in one["reasons"])
    early = await asked(client, f"product=fog&until={FIRST + timedelta(days=9)}T00:00:00Z&budget=8")
    then = FIRST + timedelta(days=9)
    past = Reference([one for one in requests if one.day < then], known).listed(then)
    assert [one["score"] for one in early["probes"]] == pytest.approx([score for _, score in past], abs=2e-6)


async def test_an_empty_log_has_an_empty_list(client: Client) -> None:
    body = await asked(client, "product=fog")
    assert (body["probes"], body["expected_coverage"], body["budget"]) == ([], 0.0, 100)
    assert (await client.get("/v1/hotlist/backtest?product=fog")).status == 404


async def test_one_event_is_a_list_of_one(client: Client, drained: Drained) -> None:
    await post(client, event("probe_viewed", data={"found": False}, occurred_at=f"{LAST}T01:00:00Z"))
    await drained()
    body = await asked(client, UNTIL)
    assert [one["probe"] for one in body["probes"]] == ["gc_ms"]
    reasons = {reason["name"]: reason["text"] for reason in body["probes"][0]["reasons"]}
    assert reasons["recent"] == (
        "1 request in 28 days, by 1 person a day added up; half-life 28 days of requests and people"
    )
    assert body["for_day"] == str(LAST + timedelta(days=1))


async def test_who_reloads_counts_less_than_as_many_people(client: Client, drained: Drained) -> None:
    at = f"{LAST}T01:00:00Z"
    alone = [event("probe_viewed", probe="reloaded", occurred_at=at, visitor="one") for _ in range(30)]
    many = [event("probe_viewed", probe="shared", occurred_at=at, visitor=f"v{number}") for number in range(10)]
    bots = [event("probe_viewed", probe="crawled", occurred_at=at, data={"found": True, "bot": True})] * 1
    await post(client, *alone, *many, *bots)
    await drained()
    body = await asked(client, UNTIL)
    assert [one["probe"] for one in body["probes"]] == ["shared", "reloaded"]


async def test_equals_are_in_the_order_of_names_and_what_cannot_be_built_is_left_out(
    client: Client, drained: Drained
) -> None:
    at = f"{LAST}T01:00:00Z"
    names = ["c_ms", "a_ms", "use_counter_x", "b_ms", "gone_ms", "gone_later_ms", "unknown_ms"]
    views = [event("probe_viewed", probe=name, occurred_at=at) for name in names]
    random.Random(1).shuffle(views)
    known = [registered(name, occurred_at="2026-01-01T00:00:00Z") for name in names if name != "unknown_ms"]
    after = f"{LAST + timedelta(days=1)}T00:00:00Z"
    retired = [
        event("probe_retired", probe=name, visitor=None, occurred_at=day, data={})
        for name, day in (("gone_ms", at), ("gone_later_ms", after))
    ]
    await post(client, *views, *known, *retired)
    await drained()
    body = await asked(client, f"product=fog&{UNTIL}")
    assert [one["probe"] for one in body["probes"]] == ["a_ms", "b_ms", "c_ms", "gone_later_ms"]
    body = await asked(client, f"product=fog&until={LAST + timedelta(days=2)}T00:00:00Z")
    assert [one["probe"] for one in body["probes"]] == ["a_ms", "b_ms", "c_ms"]


async def test_coverage_asks_for_no_more_than_it_needs(client: Client, drained: Drained) -> None:
    await post(client, *(as_event(request) for request in made(7, 400)))
    await drained()
    whole = await asked(client, f"product=fog&{UNTIL}")
    for share in (0.3, 0.6, 0.9):
        body = await asked(client, f"product=fog&{UNTIL}&coverage={share}")
        number = len(body["probes"])
        assert body["probes"] == whole["probes"][:number]
        assert body["expected_coverage"] >= share
        less = (
            await asked(client, f"product=fog&{UNTIL}&budget={number - 1}") if number > 1 else {"expected_coverage": 0}
        )
        assert less["expected_coverage"] < share
    both = await asked(client, f"product=fog&{UNTIL}&coverage=0.99&budget=2")
    assert len(both["probes"]) == 2


async def test_a_rebuilt_projection_is_read_anew(client: Client, drained: Drained, database: Connection) -> None:
    await post(client, *(as_event(request) for request in made(3, 100)))
    await drained()
    before = await asked(client, f"product=fog&{UNTIL}")
    await database.execute(
        "UPDATE popularity_views SET found = found + 5"
        " WHERE series IN (SELECT series FROM popularity_series WHERE probe = 'probe_a')"
    )
    await database.execute("UPDATE projections SET generation = gen_random_uuid() WHERE name = 'popularity'")
    after = await asked(client, f"product=fog&{UNTIL}")
    assert before["probes"] != after["probes"]


@pytest.mark.skipif(not TRAFFIC.exists(), reason="the real traffic is not here")
async def test_real_traffic_is_listed_to_the_last_digit_as_from_its_file(client: Client, drained: Drained) -> None:
    await import_file(TRAFFIC, str(client.make_url("/")), None)
    await drained()
    read = read_counts([TRAFFIC], "fog")
    for row in range(1, read.days):
        [night] = nights_of(read, [row])
        body = await asked(client, f"product=fog&until={read.day(row)}T00:00:00Z&budget=10000")
        assert [one["probe"] for one in body["probes"]] == [read.probes[column].probe for column in night.order]
        assert [one["score"] for one in body["probes"]] == np.round(night.place_scores, SHOWN_DECIMALS).tolist()
        assert body["expected_coverage"] == round(float(night.coverage[-1]), 4)


async def test_csv_and_lines_say_the_same_and_are_packed_on_request(client: Client, drained: Drained) -> None:
    await post(client, *(as_event(request) for request in made(5, 200)))
    await drained()
    query = f"/v1/hotlist?product=fog&{UNTIL}"
    listed = await (await client.get(query)).json()
    names = [one["probe"] for one in listed["probes"]]
    lines = await client.get(f"{query}&format=lines", headers={"Accept-Encoding": "gzip"})
    assert (lines.content_type, lines.headers["Content-Encoding"]) == ("text/plain", "gzip")
    assert (await lines.text()).split("\n") == [*names, ""]
    table = await client.get(f"{query}&format=csv", headers={"Accept-Encoding": "identity"})
    assert (table.content_type, table.headers.get("Content-Encoding")) == ("text/csv", None)
    rows = list(csv.DictReader((await table.text()).splitlines()))
    assert [(row["probe"], float(row["score"])) for row in rows] == [(o["probe"], o["score"]) for o in listed["probes"]]
    tags = {response.headers["ETag"] for response in (lines, table)}
    assert len(tags) == 2
    for tag in tags:
        kept = [await client.get(f"{query}&format={form}", headers={"If-None-Match": tag}) for form in ("lines", "csv")]
        assert sorted(one.status for one in kept) == [200, 304]
