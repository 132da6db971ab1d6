"""Whatever is repeated, in whatever pieces, forms and at the same time: each event is in the log once.

A model in plain Python says what becomes of each item.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple
from uuid import uuid4

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.request_forms import FORMS, in_form
from tests.support.servers import NOON, Client, Connection, JsonObject, event, rounds

FEW = settings(
    max_examples=rounds(12),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SAME_INSTANT = ["2026-11-20T12:00:00Z", "2026-11-20T13:30:00+01:30", "2026-11-20T12:00:00.000+00:00"]


class Content(NamedTuple):
    """The fields that make an event another one under the same id; the visitor does not."""

    kind: str
    page: str
    product: str
    noon: bool


class Item(NamedTuple):
    """An event under one of a few ids, with a content, or without data: then it is refused."""

    number: int
    content: Content
    instant: str
    visitor: str | None
    good: bool

    def on_the_wire(self, ids: list[str]) -> JsonObject:
        """Return the event as it is posted."""
        return event(
            self.content.kind,
            event_id=ids[self.number],
            product=self.content.product,
            occurred_at=self.instant if self.content.noon else "2026-11-20T12:00:00.000001Z",
            visitor=self.visitor,
            data={"page": self.content.page} if self.good else 17,
        )


class Request(NamedTuple):
    """A request: the items that are posted together."""

    form: str
    items: list[Item]


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """The outcome of an item in an answer, without its words."""

    index: int
    event_id: str
    status: str
    position: int | None = None


CONTENTS = st.builds(
    Content,
    st.sampled_from(["page_viewed", "x_mine"]),
    st.sampled_from(["/", "/other"]),
    st.sampled_from(["fog", "fenix"]),
    st.booleans(),
)
ITEMS = st.builds(
    Item,
    st.integers(0, 5),
    st.just(Content("page_viewed", "/", "fog", noon=True)) | CONTENTS,
    st.sampled_from(SAME_INSTANT),
    st.sampled_from([None, "ann", "bob"]),
    st.sampled_from([True, True, True, False]),
)
REQUESTS = st.lists(st.builds(Request, st.sampled_from(FORMS), st.lists(ITEMS, min_size=1, max_size=8)), max_size=6)


class Model:
    """The log as it must be, request after request."""

    def __init__(self, ids: list[str], last_position: int) -> None:
        self._ids = ids
        self._last = last_position
        self.known: dict[int, tuple[Content, int]] = {}

    def judge(self, items: list[Item]) -> list[Outcome]:
        """Return the expected outcome of each item of the next request."""
        return [Outcome(index, self._ids[item.number], *self._judge_one(item)) for index, item in enumerate(items)]

    def _judge_one(self, item: Item) -> tuple[str, int | None]:
        if not item.good:
            return "refused", None
        if item.number not in self.known:
            self._last += 1
            self.known[item.number] = item.content, self._last
            return "recorded", self._last
        content, position = self.known[item.number]
        return "duplicate" if content == item.content else "conflict", position


async def send(client: Client, request: Request, ids: list[str]) -> list[Outcome]:
    """Post a request and return the answer's items, which agree with its status."""
    body, headers = in_form(request.form, [item.on_the_wire(ids) for item in request.items], sent_at=None)
    response = await client.post("/v1/events", data=body, headers=headers)
    answer = await response.json()
    bad = [item["status"] in ("refused", "conflict") for item in answer["events"]]
    assert response.status == (422 if all(bad) else 207 if any(bad) else 201)
    assert [item["error"]["pointer"].split("/")[1] for item in answer["events"] if "error" in item] == [
        str(index) for index, is_bad in enumerate(bad) if is_bad
    ]
    return msgspec.convert(answer["events"], list[Outcome])


async def last_drawn(database: Connection) -> int:
    return int(await database.fetchval("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM event_position"))


async def logged(database: Connection, ids: list[str]) -> dict[int, tuple[Content, int]]:
    rows = await database.fetch("SELECT * FROM event_log WHERE event_id = ANY ($1::uuid[])", ids)
    noon = datetime.fromisoformat(NOON).astimezone(UTC)
    return {
        ids.index(str(row["event_id"])): (
            Content(row["type"], row["data"]["page"], row["product"], row["occurred_at"] == noon),
            row["position"],
        )
        for row in rows
    }


@FEW
@given(requests=REQUESTS)
async def test_one_request_after_the_other_is_answered_as_the_model_says(
    client: Client, database: Connection, requests: list[Request]
) -> None:
    ids = [str(uuid4()) for _ in range(6)]
    model = Model(ids, await last_drawn(database))
    for request in requests:
        expected = model.judge(request.items)
        assert await send(client, request, ids) == expected
    assert await logged(database, ids) == model.known


@FEW
@given(requests=REQUESTS)
async def test_requests_at_the_same_time_are_answered_as_in_some_order(
    client: Client, database: Connection, requests: list[Request]
) -> None:
    ids = [str(uuid4()) for _ in range(6)]
    before = await last_drawn(database)
    answers = await asyncio.gather(*(send(client, request, ids) for request in requests))
    judged: dict[int, list[tuple[Item, Outcome]]] = defaultdict(list)
    for request, outcomes in zip(requests, answers, strict=True):
        recorded = [outcome.position or 0 for outcome in outcomes if outcome.status == "recorded"]
        assert recorded == sorted(recorded)
        for item, outcome in zip(request.items, outcomes, strict=True):
            assert (outcome.status == "refused") == (not item.good)
            if item.good:
                judged[item.number].append((item, outcome))
    in_log = await logged(database, ids)
    for number, found in judged.items():
        check_one_id(found, *in_log[number])
    assert in_log.keys() == judged.keys()
    assert sorted(position for _, position in in_log.values()) == list(range(before + 1, before + 1 + len(in_log)))


def check_one_id(found: list[tuple[Item, Outcome]], content: Content, position: int) -> None:
    """Check that one event of an id is in the log, and that the others are answered with its position."""
    [first] = [item for item, outcome in found if outcome.status == "recorded"]
    assert first.content == content
    for item, outcome in found:
        assert outcome.position == position
        assert (outcome.status == "conflict") == (item.content != content)


@FEW
@given(items=st.lists(ITEMS, min_size=1, max_size=12), cuts=st.sets(st.integers(1, 11)), form=st.sampled_from(FORMS))
async def test_where_a_batch_is_split_makes_no_difference(
    client: Client, database: Connection, items: list[Item], cuts: set[int], form: str
) -> None:
    bounds = [0, *sorted(cut for cut in cuts if cut < len(items)), len(items)]
    pieces = [items[start:stop] for start, stop in pairwise(bounds)]
    whole, split = ([str(uuid4()) for _ in range(6)] for _ in range(2))
    begins = await last_drawn(database)
    at_once = await send(client, Request(form, items), whole)
    between = await last_drawn(database)
    in_pieces = [outcome for piece in pieces for outcome in await send(client, Request(form, piece), split)]
    assert [relative(outcome, begins) for outcome in at_once] == [relative(outcome, between) for outcome in in_pieces]


def relative(outcome: Outcome, start: int) -> tuple[str, int | None]:
    return outcome.status, outcome.position and outcome.position - start
