"""An event with half a character (a lone surrogate, which JavaScript may send) is refused alone."""

from __future__ import annotations

import json

import pytest

from tests.support.servers import Client, event

HALF = r"\ud800"


def text_of(body: object) -> bytes:
    """Return JSON in which `half` is half a character."""
    return json.dumps(body).replace("half", HALF).encode()


@pytest.mark.parametrize("shape", ["array", "envelope"])
async def test_its_neighbours_are_recorded(client: Client, shape: str) -> None:
    for field in ("data", "visitor", "probe"):
        bad = event("x_a", **{field: {"a": "half"} if field == "data" else "half"})
        events = [event(), bad, event()]
        body = events if shape == "array" else {"events": events, "sent_at": "2026-11-20T00:00:00Z"}
        answer = await client.post("/v1/events", data=text_of(body), headers={"Content-Type": "application/json"})
        assert answer.status == 207, await answer.text()
        items = (await answer.json())["events"]
        assert [item["status"] for item in items] == ["recorded", "refused", "recorded"]
        assert items[1]["error"]["pointer"].startswith("/1")


NO_LISTS = [
    rb'["\ud800"',
    rb'{"events": "\ud800"}',
    rb'{"other": "\ud800"}',
    rb'[{"a": "\ud800", "b": NaN}]',
    rb'{"events": [], "\ud800": 1}',
    b"[" * 2000 + rb'"\ud800"' + b"]" * 2000,
]


async def test_what_is_no_list_of_events_is_refused_whole(client: Client) -> None:
    for body in NO_LISTS:
        answer = await client.post("/v1/events", data=body, headers={"Content-Type": "application/json"})
        assert answer.status in (400, 422), await answer.text()
