"""Random bodies, queries and paths are never answered with a 5xx."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from urllib.parse import quote, urlencode

import pytest
import pytest_asyncio
from aiohttp import ClientResponse
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from tests.support.bad_input import FUZZING, INSIDE, JSON, LINES, STATEMENTS, one_service
from tests.support.servers import NOON, Client, event, rounds
from usage_service.web.api.routes import ROUTES, Route

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([NOON, *STATEMENTS]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
MEMBERS = [
    "event_id",
    "type",
    "occurred_at",
    "visitor",
    "product",
    "channel",
    "probe",
    "data",
    "events",
    "sent_at",
    "x",
]
KINDS = ["page_viewed", "probe_viewed", "control_changed", "x_a", "build_started"]
EVENTS = st.builds(
    lambda kind, changed: event(kind) | changed,
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(MEMBERS), JSON_VALUES, max_size=2),
)
BODIES = st.one_of(
    st.binary(max_size=40),
    JSON_VALUES.map(lambda value: json.dumps(value).encode()),
    st.lists(EVENTS, max_size=3).map(lambda events: json.dumps(events).encode()),
    EVENTS.map(lambda made: json.dumps(made).encode()),
)
VALUES = st.text(max_size=12) | st.sampled_from(
    ["1", "-1", "7d", "true", "fog", "nightly", "least", NOON, "9999d", "1e400"]
)
PARAMETERS = [
    "product",
    "channel",
    "window",
    "since",
    "until",
    "order",
    "bots",
    "limit",
    "budget",
    "version",
    "os",
    "x",
]
QUERIES = st.lists(st.tuples(st.sampled_from(PARAMETERS) | st.text(max_size=5), VALUES), max_size=4)
FUZZ = settings(FUZZING, max_examples=rounds(60))


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="client")
async def one_client(module_database_url: str) -> AsyncIterator[Client]:
    async with one_service(module_database_url) as client:
        yield client


async def never_a_500(response: ClientResponse) -> None:
    text = await response.text()
    assert response.status < 500, text
    if response.status >= 400:
        assert response.content_type == "application/problem+json"
        for sent in STATEMENTS:  # an answer names the event by the id that it was sent with
            text = text.replace(sent, "")
        assert not INSIDE.search(text)


@FUZZ
@given(body=BODIES, path=st.sampled_from(["/v1/events", "/v1/builds"]), headers=st.sampled_from([JSON, LINES]))
async def test_no_body_is_answered_with_a_500(
    client: Client, body: bytes, path: str, headers: Mapping[str, str]
) -> None:
    await never_a_500(await client.post(path, data=body, headers=headers))


@FUZZ
@given(query=QUERIES, route=st.sampled_from([route for route in ROUTES if route.scope == "read"]), part=VALUES)
async def test_no_query_is_answered_with_a_500(
    client: Client, query: list[tuple[str, str]], route: Route, part: str
) -> None:
    path = re.sub(r"{\w+}", quote(part, safe="", errors="replace") or "x", route.path)
    text = urlencode(query, errors="replace")
    await never_a_500(await client.request(route.method, URL(f"{path}?{text}", encoded=True), allow_redirects=False))
