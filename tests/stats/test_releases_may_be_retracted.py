"""A release that never was is taken back, in whatever order it is said: no answer shows it; it may come again."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from tests.support.servers import Client, Connection, JsonObject, event, post
from tests.support.traffic import fold_all, records
from usage_service.ingest.appending import append
from usage_service.projections.runner import Folder

WRONG, RIGHT = "2022-04-05T00:00:00+00:00", "2022-05-03T00:00:00+00:00"
NOTICED, LATER = "2026-11-20T10:00:00Z", "2026-11-20T11:00:00Z"


def said(kind: str, at: str, product: str = "fog", published_at: str | None = None) -> JsonObject:
    data: dict[str, Any] = {"version": 100} | ({"published_at": published_at} if published_at else {})
    return event(kind, product=product, channel="release", occurred_at=at, visitor=None, data=data)


def stories(product: str) -> list[tuple[list[JsonObject], str | None]]:
    """Return words on a release, and when it was published if all of them are known."""
    wrong, right = said("release_published", WRONG, product), said("release_published", RIGHT, product)
    retraction = said("release_retracted", NOTICED, product, WRONG)
    again = said("release_published", LATER, product, WRONG)
    earlier = said("release_published", "2026-11-20T09:00:00Z", product, WRONG)
    return [
        ([wrong, retraction], None),
        ([wrong, retraction, right], RIGHT),
        ([wrong, retraction, again], WRONG),
        ([wrong, retraction, again, right], WRONG),
        ([wrong, retraction, earlier], None),
        ([wrong, said("release_retracted", WRONG, product, WRONG), right], RIGHT),
        ([right, said("release_retracted", NOTICED, product, RIGHT), wrong], WRONG),
    ]


async def test_in_every_order_and_every_batch(own_database: Connection) -> None:
    expected: dict[str, str] = {}
    number = 0
    for size in (1, 2, 9):
        for story in range(len(stories("fog"))):
            for order in permutations(range(len(stories("fog")[story][0]))):
                product = f"p{number}"
                number += 1
                events, published = stories(product)[story]
                await append(own_database, records([events[index] for index in order]))
                if published:
                    expected[product] = published
        folder = Folder("releases", batch=size)
        while (fold := await folder.fold(own_database)).now_at < fold.log_end:
            pass
    rows = await own_database.fetch("SELECT product, version, published_at FROM releases")
    assert {row["product"]: row["published_at"].isoformat() for row in rows} == expected
    assert number > 150


async def test_no_answer_shows_it(client: Client, database: Connection) -> None:
    async def published() -> list[str]:
        await fold_all(database)
        answer = await client.get("/v1/releases/impact?product=fog&since=2020-01-01T00:00:00Z")
        return [release["published_at"] for release in (await answer.json())["releases"]]

    await post(client, said("release_published", WRONG), said("release_published", RIGHT))
    assert await published() == ["2022-04-05T00:00:00Z"]
    await post(client, said("release_retracted", NOTICED, published_at=WRONG))
    assert await published() == ["2022-05-03T00:00:00Z"]
    await post(client, said("release_retracted", NOTICED, published_at=RIGHT))
    assert await published() == []
    await post(client, said("release_published", LATER, published_at=WRONG))
    assert await published() == ["2022-04-05T00:00:00Z"]


@pytest.mark.parametrize(
    ("kind", "data", "pointer", "why"),
    [
        ("release_retracted", {"version": 100}, "/data/published_at", "missing"),
        ("release_retracted", {"version": "100", "published_at": WRONG}, "/data/version", "int"),
        ("release_retracted", {"version": 100, "published_at": "2022-04-05"}, "/data/published_at", "RFC 3339"),
        (
            "release_retracted",
            {"version": 100, "published_at": LATER},
            "",
            "published_at that is not after its occurred_at",
        ),
        (
            "release_published",
            {"version": 100, "published_at": LATER},
            "",
            "published_at that is not after its occurred_at",
        ),
        ("release_published", {"version": 1, "published_at": "0001-01-01T00:00:00Z"}, "", "not before 2000-01-01"),
    ],
)
async def test_what_cannot_be_is_refused(
    client: Client, kind: str, data: dict[str, Any], pointer: str, why: str
) -> None:
    body = event(kind, product="fog", channel="release", occurred_at=NOTICED, visitor=None, data=data)
    response = await client.post("/v1/events", json=[body])
    [item] = (await response.json())["events"]
    assert response.status == 422
    assert item["error"]["pointer"] == f"/0{pointer}"
    assert why in item["error"]["detail"]
