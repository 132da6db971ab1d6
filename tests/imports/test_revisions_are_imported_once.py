"""Revisions of builds come from CSV or JSON, the same ids each time; of an hour the last build counts."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.servers import Client, Connection
from tests.support.traffic import fold_all
from usage_service.commands.importing import import_file
from usage_service.imports.posting import ImportStats
from usage_service.imports.product_details import FIREFOX, ReleasesOf

RECORDED_AT = datetime(2026, 11, 1, tzinfo=UTC)
ROWS = [
    {"channel": "nightly", "build_id": "20261119101500", "revision": "aaaaaaa1"},
    {"channel": "nightly", "build_id": "20261119104500", "revision": "bbbbbbb2"},
    {"channel": "beta", "build_id": "2026111910", "revision": "ccccccc3", "product": "fenix"},
]
FOLDED = [("fenix", "beta", "2026111910", "ccccccc3"), ("fog", "nightly", "2026111910", "bbbbbbb2")]
CSV = "product,channel,build_id,revision\n" + "".join(
    f"{row.get('product', '')},{row['channel']},{row['build_id']},{row['revision']}\n" for row in ROWS
)
FORMS = {
    "revisions.csv": CSV,
    "revisions.json": json.dumps(ROWS, indent=2),
    "revisions.ndjson": "\n".join(map(json.dumps, ROWS)),
}


async def imported(client: Client, path: Path, of: ReleasesOf = FIREFOX) -> ImportStats:
    return await import_file(path, RECORDED_AT, str(client.make_url("/")), None, of)


async def folded(database: Connection) -> list[tuple[str, ...]]:
    await fold_all(database)
    rows = await database.fetch("SELECT product, channel, build_hour, revision FROM build_revisions ORDER BY 1, 2, 3")
    return [tuple(row) for row in rows]


async def test_every_form_says_the_same(client: Client, database: Connection, tmp_path: Path) -> None:
    expected = {"recorded": 3}
    for name, text in FORMS.items():
        path = tmp_path / f"{name}.gz"
        path.write_bytes(gzip.compress(text.encode()))
        assert (await imported(client, path)).statuses == expected
        expected = {"duplicate": 3}
    assert await folded(database) == FOLDED
    times = await database.fetch("SELECT DISTINCT occurred_at FROM event_log")
    assert [row[0] for row in times] == [datetime(2026, 11, 19, 10, tzinfo=UTC)]


async def test_the_product_is_as_asked_for(client: Client, database: Connection, tmp_path: Path) -> None:
    path = tmp_path / "revisions.json"
    path.write_text(json.dumps(ROWS[0]))
    await imported(client, path, ReleasesOf("firefox", None))
    assert [row[0] for row in await folded(database)] == ["firefox"]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        (
            "a.json",
            '[{"channel": "nightly", "build_id": "today", "revision": "aaaaaaa1"}]',
            "build_id: must begin with",
        ),
        ("a.json", '[{"channel": "nightly", "build_id": 2026111910, "revision": "a b"}]', "/data/revision Expected"),
        (
            "a.json",
            '[{"channel": null, "build_id": "2026111910", "revision": "aaaaaaa1"}]',
            "a.json:1: /channel Expected",
        ),
        ("a.json", '[{"channel": "nightly", "build_id": "2026111910"}]', "nor the revision of a build"),
        ("a.json", "[1", "not JSON"),
        ("a.csv", "channel,build_id,revision\nnightly,2026139910,aaaaaaa1\n", "build_id: must begin with"),
        ("a.csv", "channel,build_id,revision\nnightly\n", "build_id: must begin with"),
    ],
)
async def test_what_is_wrong_is_named(client: Client, tmp_path: Path, name: str, text: str, why: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    stats = await imported(client, path)
    assert stats.statuses == {"refused": 1}
    assert why in stats.refusals[0]
