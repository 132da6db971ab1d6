"""GLAM's usage log is answered as by its own server, to the ETL that reads which probes are viewed, as gzip."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from tests.support.bad_input import STATEMENTS, refused
from tests.support.building import served
from tests.support.servers import Client, Connection, JsonObject, connected, drained_projections, event, post
from usage_service.glam import usage as glam_usage

pytestmark = pytest.mark.asyncio(loop_scope="module")

URL = "/api/v1/usage/"
DAYS = [date(2026, 11, 1) + timedelta(days=number) for number in range(8)]
ALL = ["id", "action_type", "timestamp", "context", "tracking_id", "probe_name", "product", "channel"]


class Glam(NamedTuple):
    """Client of a service, its database, and the views in its log, in their order; and whether misses are listed."""

    client: Client
    database: Connection
    views: list[JsonObject]
    misses: bool = False


def some_views() -> list[JsonObject]:
    """Return random views: some at midnight, some of bots, some of probes that were missing."""
    chance = random.Random(20261124)
    return [
        event(
            "probe_viewed",
            occurred_at=f"{chance.choice(DAYS)}T{chance.choice(['00:00:00', '12:30:00.5', '23:59:59.999999'])}Z",
            product=chance.choice(["fog", "fenix"]),
            channel=chance.choice(["nightly", "release", None]),
            probe=f"probe_{chance.randrange(12)}",
            data={"found": chance.random() < 0.7, "bot": chance.random() < 0.2}
            | ({"os": "Windows", "ping_type": "*", "versions": [144, 143]} if chance.random() < 0.5 else {}),
        )
        for _ in range(400)
    ]


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="glam")
async def one_glam(module_database_url: str) -> AsyncIterator[Glam]:
    async with served(module_database_url) as client, connected(module_database_url) as database:
        views = some_views()
        await post(client, *views, event("page_viewed"), event("probe_searched", data={"query": "gc", "results": 3}))
        await drained_projections(database)
        yield Glam(client, database, views)


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=[False, True], ids=["found", "with misses"])
async def either(glam: Glam, module_database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Glam]:
    """Ask in GLAM's way, which records no misses, and in the other."""
    if not request.param:
        yield glam
        return
    async with served(module_database_url, usage_misses=True) as client:
        yield glam._replace(client=client, misses=True)


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def when(view: JsonObject) -> datetime:
    return datetime.fromisoformat(view["occurred_at"])


def seen(view: JsonObject) -> JsonObject:
    """Return a view in GLAM's format, but for its id."""
    data = view["data"]
    context = {
        "product": view["product"], "app_id": view.get("channel"), "probe": view["probe"],
        "ping_type": data.get("ping_type"), "os": data.get("os"), "versions": data.get("versions"),
        "found": None if data["found"] else False,
    }  # fmt: skip
    return {
        "action_type": "PROBE_SEARCH",
        "timestamp": when(view),
        "context": {name: value for name, value in context.items() if value is not None},
        "tracking_id": "",
        "probe_name": view["probe"],
        "product": view["product"],
        "channel": view.get("channel"),
    }


def chosen(glam: Glam, first: date | None, end: date | None, product: str | None = None) -> list[JsonObject]:
    """Return the views from the first instant of a day to the first of another, both included, as the reference."""
    return [
        seen(view)
        for view in glam.views
        if (first is None or when(view) >= midnight(first))
        and (end is None or when(view) <= midnight(end))
        and product in (None, view["product"])
        and (view["data"]["found"] or glam.misses)
    ]


async def usage(glam: Glam, **asked: object) -> list[JsonObject]:
    response = await glam.client.get(URL, params={name: str(value) for name, value in asked.items()})
    assert response.status == 200, await response.text()
    assert response.content_type == "application/json"
    rows = list(await response.json())
    for row in rows:
        if "timestamp" in row:
            row["timestamp"] = datetime.fromisoformat(row["timestamp"])
    return rows


def spelt(day: date | None) -> str:
    return f"{day:%Y%m%d}" if day else ""


DAY_RANGES = [
    (None, None),
    (DAYS[2], None),
    (None, DAYS[5]),
    (DAYS[2], DAYS[5]),
    (DAYS[5], DAYS[2]),
    (DAYS[3], DAYS[3]),
]


@pytest.mark.parametrize(("first", "end"), DAY_RANGES)
@pytest.mark.parametrize("product", ["", "fog", "fenix", "klar"])
async def test_without_fields_each_view_has_three(
    either: Glam, first: date | None, end: date | None, product: str
) -> None:
    rows = await usage(either, fromDate=spelt(first), toDate=spelt(end), product=product)
    expected = chosen(either, first, end, product or None)
    assert rows == [{name: row[name] for name in ("action_type", "timestamp", "probe_name")} for row in expected]


@pytest.mark.parametrize("fields", [ALL, ["probe_name"], ["context", "timestamp"], ["probe_name", "probe_name"]])
async def test_fields_are_those_asked_for(either: Glam, fields: list[str]) -> None:
    rows = await usage(either, fields=",".join(fields), actionType="PROBE_SEARCH")
    wanted = [name for name in dict.fromkeys(fields) if name != "id"]
    expected = [{name: row[name] for name in wanted} for row in chosen(either, None, None)]
    ids = [row.pop("id") for row in rows if "id" in row]
    assert rows == expected
    assert ids == sorted(set(ids))


@pytest.mark.parametrize(("first", "end"), DAY_RANGES)
@pytest.mark.parametrize(
    ("fields", "product"),
    [(["probe_name"], ""), (["probe_name"], "fog"), (["action_type"], ""), (["product", "channel", "probe_name"], ""),
     (["channel", "tracking_id"], "fenix")],
)  # fmt: skip
async def test_counts_are_largest_first(
    either: Glam, first: date | None, end: date | None, fields: list[str], product: str
) -> None:
    rows = await usage(
        either, fromDate=spelt(first), toDate=spelt(end), fields=",".join(fields), agg="count", product=product
    )
    counts = Counter(tuple(row[name] for name in fields) for row in chosen(either, first, end, product or None))
    assert {tuple(row[name] for name in fields): row["total"] for row in rows} == counts
    assert len(rows) == len(counts)
    assert all(list(row) == [*fields, "total"] for row in rows)
    totals = [row["total"] for row in rows]
    assert totals == sorted(totals, reverse=True)


async def test_agg_without_fields_is_passed_over_and_so_is_what_is_not_known(glam: Glam) -> None:
    everything = await usage(glam)
    assert await usage(glam, agg="count") == everything
    assert await usage(glam, agg="sum", page="3", format="json") == everything


@pytest.mark.parametrize("action", ["PROBE_VIEW", "probe_search", "'"])
async def test_there_are_no_other_actions(glam: Glam, action: str) -> None:
    assert await usage(glam, actionType=action) == []


@pytest.mark.parametrize(
    "form",
    ["%Y%m%d", "%Y-%m-%d", "%d %B %Y", "%m/%d/%Y", "%Y%m%dT000000", "%Y-%m-%dT02:00:00+02:00", "%Y-%m-%d 00:00 CEST"],
)
async def test_a_date_may_be_written_in_any_way_that_dateutil_reads(glam: Glam, form: str) -> None:
    day = DAYS[3]
    rows = await usage(glam, fromDate=f"{day:{form}}", fields="probe_name")
    assert len(rows) == len(chosen(glam, day, None))


PARTS_OF_DAYS = [
    ("2026-11-03 12:30:00.5", "2026-11-06 12:30:00.5"),
    ("2026-11-03", "2026-11-06 12:30:00.4"),
    ("2026-11-07 23:00", ""),
]


@pytest.mark.parametrize(("first", "last"), PARTS_OF_DAYS)
@pytest.mark.parametrize("fields", [["probe_name"], ["product", "channel"]])
async def test_parts_of_days_are_listed_and_counted_to_the_instant(
    either: Glam, first: str, last: str, fields: list[str]
) -> None:
    limits = [datetime.fromisoformat(text).replace(tzinfo=UTC) if text else None for text in (first, last)]
    expected = [
        seen(view)
        for view in either.views
        if (limits[0] is None or when(view) >= limits[0])
        and (limits[1] is None or when(view) <= limits[1])
        and (view["data"]["found"] or either.misses)
    ]
    asked = {"fromDate": first, "toDate": last, "fields": ",".join(fields)}
    assert await usage(either, **asked) == [{name: row[name] for name in fields} for row in expected]
    counts = Counter(tuple(row[name] for name in fields) for row in expected)
    rows = await usage(either, **asked, agg="count")
    assert {tuple(row[name] for name in fields): row["total"] for row in rows} == counts


@pytest.mark.parametrize("name", ["fromDate", "toDate"])
@pytest.mark.parametrize("text", ["20261301", "yesterday", "2026-11-31", "0", "\x00", "9" * 400, "2026-11-24T99:00:00"])
async def test_a_wrong_date_is_400_and_named(glam: Glam, name: str, text: str) -> None:
    problem = await refused(await glam.client.get(URL, params={name: text}), 400)
    assert problem["errors"][0]["parameter"] == name


@pytest.mark.parametrize("fields", ["pk", "probe_name,", "probe_name__len", "visitor", "*", "probe_name, id", "\x00"])
@pytest.mark.parametrize("agg", ["", "count"])
async def test_a_wrong_field_is_400_in_glams_own_words(glam: Glam, fields: str, agg: str) -> None:
    response = await glam.client.get(URL, params={"fields": fields, "agg": agg})
    assert (response.status, await response.json()) == (400, ["Invalid fields parameter"])


@pytest.mark.parametrize("field", ["id", "timestamp", "context"])
async def test_what_is_of_one_view_only_is_not_counted_by(glam: Glam, field: str) -> None:
    await refused(await glam.client.get(URL, params={"fields": f"probe_name,{field}", "agg": "count"}), 400)


@pytest.mark.parametrize("name", ["fromDate", "toDate", "fields", "actionType", "agg", "product"])
@pytest.mark.parametrize("statement", [*STATEMENTS, "\x00"])
async def test_no_text_is_taken_for_sql(glam: Glam, name: str, statement: str) -> None:
    response = await glam.client.get(URL, params={name: statement})
    assert response.status in (200, 400)
    assert len(await usage(glam, fields="probe_name")) == len(chosen(glam, None, None))


def downloaded(port: int, asked: dict[str, str], offer: str | None) -> tuple[int, bytes]:
    """Request with the given Accept-Encoding, or without any; return the status and the raw body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest("GET", f"{URL}?{urlencode(asked)}", skip_accept_encoding=True)
    if offer is not None:
        connection.putheader("Accept-Encoding", offer)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


@pytest.mark.parametrize("offer", [None, "identity", "gzip, deflate, br", "", "gzip;q=0"])
@pytest.mark.parametrize(
    "asked",
    [
        {"fields": "probe_name", "agg": "count"},
        {"fields": "probe_name", "agg": "count", "fromDate": "2026-11-03 10:00"},
        {"fields": "probe_name"},
        {"fromDate": "20990101"},
        {"actionType": "X"},
    ],
)
async def test_the_etl_unpacks_whatever_it_gets_whatever_it_asks_for(
    glam: Glam, asked: dict[str, str], offer: str | None
) -> None:
    assert glam.client.port
    wanted = {"actionType": "PROBE_SEARCH"} | asked
    status, body = await asyncio.to_thread(downloaded, glam.client.port, wanted, offer)
    assert status == 200
    expected = await usage(glam, **wanted)
    entries = json.loads(gzip.decompress(body).decode())
    assert [row.get("probe_name") for row in entries] == [row["probe_name"] for row in expected]


async def test_counts_are_as_fresh_as_asked_for_and_not_sent_twice(glam: Glam) -> None:
    [posted] = await post(glam.client, event("probe_viewed", probe="just_now", occurred_at="2026-11-15T00:00:00Z"))
    asked = {"fields": "probe_name", "agg": "count", "fromDate": "20261115", "at_least": str(posted["position"])}
    response = await glam.client.get(URL, params=asked)
    assert await response.json() == [{"probe_name": "just_now", "total": 1}]
    assert int(response.headers["Log-Position"]) >= posted["position"]
    again = {"If-None-Match": response.headers["ETag"]}
    assert (await glam.client.get(URL, params=asked, headers=again)).status == 304
    await glam.database.execute("DELETE FROM event_log WHERE probe = 'just_now'")


async def test_a_long_log_comes_a_range_of_positions_at_a_time(glam: Glam, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = await usage(glam)
    monkeypatch.setattr(glam_usage, "RANGE_POSITIONS", 7)
    assert await usage(glam) == whole
