"""Unused probes are what plain Python makes of the events; every page, format and filter tells the same."""

from __future__ import annotations

import csv
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from statistics import median
from typing import Any, get_args
from urllib.parse import urlsplit
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.servers import Client, Connection, JsonObject, post, rounds
from tests.support.traffic import fold_all, records
from usage_service.hidden_probes import HiddenNames
from usage_service.hotlist.costs import CostReader
from usage_service.hotlist.unused import UnusedCursor, UnusedFilter, UnusedOrder, UnusedPage, UnusedProbe, unused_probes
from usage_service.ingest.appending import append
from usage_service.windows import Days

Drained = Callable[[], Awaitable[None]]
FIRST = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)
PROBES = ["gc_ms", "slow_ms", "use_counter_x", "tab.count"]
CHANNELS = ["nightly", "beta"]
DATA: dict[str, st.SearchStrategy[JsonObject]] = {
    "probe_viewed": st.fixed_dictionaries({"found": st.booleans()}, optional={"bot": st.booleans()}),
    "probe_registered": st.fixed_dictionaries(
        {"type": st.sampled_from(["counter", "event"]), "ping": st.just("metrics")}
    ),
    "probe_retired": st.just({}),
    "probe_built": st.just({}),
    "build_succeeded": st.fixed_dictionaries({"build_id": st.just("b"), "bytes": st.integers(0, 5)}),
}
KINDS = [*["probe_viewed"] * 4, *["probe_registered"] * 4, "probe_retired", "probe_built", "build_succeeded"]


@st.composite
def events(draw: st.DrawFn) -> JsonObject:
    kind = draw(st.sampled_from(KINDS))
    at = FIRST + timedelta(hours=draw(st.integers(0, 24 * 8)), minutes=draw(st.integers(0, 59)))
    made: JsonObject = {
        "event_id": str(draw(st.uuids(version=4))),
        "type": kind,
        "occurred_at": at.isoformat(),
        "data": draw(DATA[kind]),
    }
    made |= {"product": draw(st.sampled_from(["fog", "fenix"])), "probe": draw(st.sampled_from(PROBES))}
    if kind.startswith("build") or (kind == "probe_viewed" and draw(st.booleans())):
        made["channel"] = draw(st.sampled_from(CHANNELS))
    return made


def moment(item: JsonObject) -> datetime:
    return datetime.fromisoformat(item["occurred_at"])


def reference(log: list[JsonObject], only: UnusedFilter, hiding: Iterable[tuple[str, str]]) -> list[tuple[Any, ...]]:
    """Return product, probe, day of the last view, whether it is new, views by bots, bytes; the most bytes first."""
    found = []
    for product, probe in {(item["product"], item["probe"]) for item in log}:
        own = [item for item in log if (item["product"], item["probe"]) == (product, probe)]
        times = {kind: [moment(item) for item in own if item["type"] == kind] for kind in DATA}
        known, retired = times["probe_registered"], times["probe_retired"]
        name = probe.replace(".", "_").lower()
        if not known or min(known) >= only.until or (retired and max(retired) >= max(known)):
            continue
        if any(of in ("", product) and fnmatchcase(name, pattern) for pattern, of in hiding):
            continue
        if only.product not in (None, product):
            continue
        views = [item for item in own if item["type"] == "probe_viewed" and moment(item) < only.until]
        views = [item for item in views if only.channel in (None, item.get("channel"))]
        people = [moment(item) for item in views if not item["data"].get("bot")]
        bots = sum(moment(item) >= only.since for item in views if item["data"].get("bot"))
        if people and max(people) >= only.since:
            continue
        last = max(people).date() if people else None
        read = night_bytes(log, product, probe, only)
        found.append((product, probe, last, min(known) >= only.since, bots, read))
    return sorted(found, key=lambda one: (-(-1 if one[5] is None else one[5]), one[0], one[1]))


def night_bytes(log: list[JsonObject], product: str, probe: str, only: UnusedFilter) -> int | None:
    """Return what a night reads: a channel is its last build, else the median of the like, of the channel, of all."""
    types: dict[tuple[str, str], str] = {}
    for item in sorted(log, key=lambda one: (moment(one), one["data"].get("type", ""))):
        if item["type"] == "probe_registered":
            types[item["product"], item["probe"]] = item["data"]["type"]
    last: dict[tuple[str, str, str], tuple[datetime, int]] = {}
    for item in log:
        known = item["type"] == "build_succeeded" and moment(item).date() <= only.days.last
        if known and only.product in (None, item["product"]):
            key = item["product"], item["channel"], item["probe"]
            cost = moment(item), item["data"]["bytes"]
            last[key] = max(last.get(key, cost), cost)
    built = {key: read for key, (_, read) in last.items()}
    if not built:
        return None
    channels = [only.channel] if only.channel else sorted({key[1] for key in built if key[0] == product}) or [""]
    total = 0
    for channel in channels:
        kind = types.get((product, probe), "")
        alike = [read for key, read in built.items() if key[:2] == (product, channel)]
        like = [
            read for key, read in built.items()
            if key[:2] == (product, channel) and types.get((key[0], key[2]), "") == kind
        ]  # fmt: skip
        usual = round(median(like or alike or list(built.values())))
        total += built.get((product, channel, probe), usual)
    return total


def shown(page: UnusedPage) -> list[tuple[Any, ...]]:
    return [(one.product, one.probe, one.last_viewed_on, one.is_new, one.bot_views, one.bytes) for one in page.probes]


# What comes first in each order, without a word on how it is made.
ORDERS: dict[UnusedOrder, Callable[[UnusedProbe], Any]] = {
    "bytes": lambda one: (-(-1 if one.bytes is None else one.bytes), one.product, one.probe),
    "last_viewed": lambda one: (one.last_viewed_on or date.min, one.product, one.probe),
    "registered": lambda one: (one.registered_at, one.product, one.probe),
    "name": lambda one: (one.product, one.probe),
}


@given(
    log=st.lists(events(), max_size=30, unique_by=lambda item: item["event_id"]),
    first=st.integers(0, 8),
    length=st.integers(1, 9),
    product=st.sampled_from([None, "fog"]),
    channel=st.sampled_from([None, "nightly"]),
    order=st.sampled_from(get_args(UnusedOrder)),
    size=st.integers(1, 3),
)
@settings(
    max_examples=rounds(12),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_any_log_has_those_of_the_reference_in_pages_of_any_size(
    own_database: Connection,
    log: list[JsonObject],
    first: int,
    length: int,
    product: str | None,
    channel: str | None,
    order: UnusedOrder,
    size: int,
) -> None:
    await own_database.execute(
        "TRUNCATE event_log, build_costs, catalogue, probe_hours; UPDATE projections SET position = 0"
    )
    if log:
        await append(own_database, records(log))
    await fold_all(own_database)
    since = FIRST.date() + timedelta(days=first)
    only = UnusedFilter(Days(since, since + timedelta(days=length - 1)), product, channel, order)
    hiding = await own_database.fetch("SELECT pattern, product FROM hidden_probes")
    expected = reference(log, only, [(row[0], row[1]) for row in hiding])
    costs, hidden = CostReader(), HiddenNames()
    whole = await unused_probes(own_database, costs, hidden, only, 10_000)
    assert whole.probes == sorted(whole.probes, key=ORDERS[order])
    assert sorted(map(repr, shown(whole))) == sorted(map(repr, expected))
    if order == "bytes":
        assert shown(whole) == expected
    read = [one[5] for one in expected if one[5] is not None]
    assert whole.totals.probes == len(expected)
    assert whole.totals.never_viewed == sum(one[2] is None for one in expected)
    assert whole.totals.new == sum(one[3] for one in expected)
    assert whole.totals.bytes == (sum(read) if read or not expected else None)
    viewed = [
        moment(item).date() for item in log if item["type"] == "probe_viewed" and product in (None, item["product"])
    ]
    registered = (item for item in log if item["type"].startswith("probe_") and item["type"] != "probe_viewed")
    in_catalogue = {item["product"] for item in registered}
    assert whole.recorded_since is None or whole.recorded_since in viewed
    if {item["product"] for item in log if item["type"] == "probe_viewed"} <= in_catalogue:
        assert whole.recorded_since == min(viewed, default=None)
    paged: list[tuple[Any, ...]] = []
    after: UnusedCursor | None = None
    while True:
        page = await unused_probes(own_database, costs, hidden, only, size, after)
        paged += shown(page)
        assert page.totals == whole.totals
        if page.following is None:
            break
        after = UnusedCursor.parse(str(page.following))
    assert paged == shown(whole)


def viewed(probe: str, day: date, **data: object) -> JsonObject:
    at = f"{day}T12:00:00Z"
    named = {"product": "fog", "channel": "nightly", "probe": probe}
    return {"type": "probe_viewed", "occurred_at": at, **named, "data": {"found": True} | data}


async def filled(client: Client, drained: Drained) -> None:
    """Register eight probes, of which one is viewed, one missed, one viewed by a bot and one retired."""
    names = [f"probe_{number}" for number in range(7)] + ["use_counter_y"]
    known: list[JsonObject] = [
        {"type": "probe_registered", "occurred_at": "2026-06-01T00:00:00Z", "product": "fog", "probe": name,
         "data": {"type": "counter"} | (DETAILS if name == "probe_4" else {})}
        for name in names
    ]  # fmt: skip
    day = date(2026, 7, 20)
    retired = {"type": "probe_retired", "occurred_at": "2026-07-01T00:00:00Z", "product": "fog", "probe": "probe_6"}
    views = [
        viewed("probe_0", day), viewed("probe_1", day, found=False), viewed("probe_2", day, bot=True),
        viewed("probe_3", day - timedelta(days=40)),
    ]  # fmt: skip
    logged = [item | {"event_id": str(UUID(int=number))} for number, item in enumerate([*known, retired, *views])]
    await post(client, *logged)
    await drained()


DETAILS = {"owners": ["ann@example.org", "bob@example.org"], "expires": "2026-12-31", "disabled": True}
ASKED = "/v1/unused?product=fog&window=30d&until=2026-08-01T00:00:00Z"


async def test_it_is_answered_with_what_cannot_be_seen(client: Client, drained: Drained) -> None:
    await filled(client, drained)
    response = await client.get(ASKED)
    body = await response.json()
    told = {one["probe"]: (one["last_viewed_on"], one["bot_views"]) for one in body["probes"]}
    assert told == {"probe_2": (None, 1), "probe_3": ("2026-06-10", 0), "probe_4": (None, 0), "probe_5": (None, 0)}
    assert (body["first_day"], body["last_day"], body["recorded_since"]) == ("2026-07-02", "2026-07-31", "2026-06-10")
    about = {one["probe"]: {name: one[name] for name in DETAILS} for one in body["probes"]}
    nothing = {"owners": None, "expires": None, "disabled": False}
    assert about == {name: DETAILS if name == "probe_4" else nothing for name in told}
    assert "before 2026-06-10" in body["blind_spot"]
    assert body["totals"] == {"probes": 4, "never_viewed": 3, "new": 0, "bytes": None}
    assert (body["next"], response.headers.get("Link")) == (None, None)
    assert int(response.headers["Log-Position"]) == 13
    again = await client.get(ASKED, headers={"If-None-Match": response.headers["ETag"]})
    assert again.status == 304
    longer = await (await client.get(ASKED.replace("30d", "90d"))).json()
    assert "after these days began" in longer["blind_spot"]
    assert not {"probe_3"} & {one["probe"] for one in longer["probes"]}


async def test_pages_and_csv_hold_the_same(client: Client, drained: Drained) -> None:
    await filled(client, drained)
    whole = (await (await client.get(ASKED)).json())["probes"]
    paged, place = [], ASKED + "&limit=3"
    while place:
        response = await client.get(place)
        body = await response.json()
        paged += body["probes"]
        link = f'<{body["next"]}>; rel="next"' if body["next"] else None
        assert response.headers.get("Link") == link
        place = body["next"]
    assert paged == whole
    response = await client.get(f"{ASKED}&format=csv&limit=3")
    assert response.content_type == "text/csv"
    rows = list(csv.DictReader((await response.text()).splitlines()))
    assert [row["probe"] for row in rows] == [one["probe"] for one in whole[:3]]
    assert [row["is_new"] for row in rows] == ["false"] * 3
    assert [(row["owners"], row["disabled"]) for row in rows] == [
        ("", "false"), ("", "false"), ("ann@example.org bob@example.org", "true"),
    ]  # fmt: skip
    following = response.headers["Link"].removeprefix("<").partition(">")[0]
    assert urlsplit(following).path == "/v1/unused"
    rest = list(csv.DictReader((await (await client.get(following)).text()).splitlines()))
    assert [row["probe"] for row in rest] == [one["probe"] for one in whole[3:]]


async def test_what_a_night_reads_comes_first(client: Client, database: Connection, drained: Drained) -> None:
    await filled(client, drained)
    named = {"product": "fog", "channel": "nightly", "type": "build_succeeded"}
    ended = [
        {"event_id": str(UUID(int=100 + number)), "occurred_at": "2026-07-15T10:00:00Z", "probe": probe, **named,
         "data": {"build_id": "b", "bytes": read}}
        for number, (probe, read) in enumerate((("probe_4", 5_000), ("probe_0", 100)))
    ]  # fmt: skip
    await append(database, records(ended))
    await drained()
    body = await (await client.get(ASKED)).json()
    told = [(one["probe"], one["bytes"], one["bytes_basis"]) for one in body["probes"]]
    assert told[0] == ("probe_4", 5_000, "builds")
    assert told[1:] == [(f"probe_{number}", 2_550, "type") for number in (2, 3, 5)]
    assert body["totals"]["bytes"] == 5_000 + 3 * 2_550
