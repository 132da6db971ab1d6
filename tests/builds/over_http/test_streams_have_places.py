"""Streams of a build's events have places, in all and for each token: nobody takes all."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import timedelta

import pytest

from tests.support.building import ask, served
from tests.support.servers import Client, connected, eventually, post, registered
from usage_service import service as of_service
from usage_service.shared.stream_limit import StreamLimit, StreamLimitReachedError
from usage_service.tokens import create_token

OWN = "the operator's own token"


async def follow(client: Client, place: str, token: str) -> int:
    """Open a stream that stays open; return the status of its answer."""
    response = await client.get(f"{place}/events", headers={"Authorization": f"Bearer {token}"})
    if response.status == 429:
        assert response.content_type == "application/problem+json"
        assert response.headers["Retry-After"] == "5"
    return response.status


async def test_one_token_leaves_places_to_others(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_service, "MOST_STREAMS", 5)
    monkeypatch.setattr(of_service, "MOST_STREAMS_EACH", 2)
    async with served(database_url, token=OWN) as client, connected(database_url) as database:
        client.session.headers["Authorization"] = f"Bearer {OWN}"
        await post(client, registered("gc_ms"))

        async def is_known() -> bool:
            return (await ask(client)).status == 202

        await eventually(is_known, "the probe is known")
        place = (await ask(client)).headers["Location"]
        tokens = [await create_token(database, name, ["read"], timedelta(days=1)) for name in ("one", "two", "three")]
        assert [await follow(client, place, tokens[0]) for _ in range(3)] == [200, 200, 429]
        assert [await follow(client, place, tokens[1]) for _ in range(3)] == [200, 200, 429]
        assert [await follow(client, place, tokens[2]) for _ in range(2)] == [200, 429], "there are five in all"


def test_a_place_that_is_left_is_free() -> None:
    streams = StreamLimit(3, 2)
    with ExitStack() as stack:
        stack.enter_context(streams.take("a"))
        with streams.take("a"), pytest.raises(StreamLimitReachedError, match="all 2 places of a"), streams.take("a"):
            pass
        stack.enter_context(streams.take("a"))
        stack.enter_context(streams.take("b"))
        with pytest.raises(StreamLimitReachedError, match="all 3 places"), streams.take("c"):
            pass
        assert streams.taken == 3
    assert streams.taken == 0
