"""Product-details become releases: one a major version and channel, the same ids each time; what is none is told."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.servers import Client, Connection
from tests.support.traffic import fold_all
from usage_service.imports.importing import import_file
from usage_service.imports.lines import NO_OPTIONS, Options
from usage_service.imports.refusals import UnreadableFileError

RECORDED_AT = datetime(2026, 11, 1, tzinfo=UTC)
MAJOR = {"1.0": "2004-11-09", "1.0.1": "2005-02-24", "99.0": "2022-04-05", "100.0": "2022-05-03"}
BETA = {"100.0b2": "2022-04-08", "100.0b1": "2022-04-05", "101.0b1": "2022-05-03"}
CURRENT = {
    "FIREFOX_AURORA": "",
    "FIREFOX_DEVEDITION": "152.0b3",
    "FIREFOX_ESR": "140.12.0esr",
    "FIREFOX_NIGHTLY": "153.0a1",
    "LAST_MERGE_DATE": "2026-05-18",
    "LAST_RELEASE_DATE": "2026-05-19",
    "LATEST_FIREFOX_VERSION": "151.0.1",
}


async def imported(client: Client, path: Path, options: Options = NO_OPTIONS) -> Counter[str]:
    return Counter((await import_file(path, str(client.make_url("/")), None, options)).statuses)


async def releases(database: Connection) -> list[tuple[str, str, int, str]]:
    await fold_all(database)
    rows = await database.fetch("SELECT * FROM releases ORDER BY product, channel, version")
    return [(row[0], row[1], row[2], row[3].isoformat()[:16]) for row in rows]


async def test_a_history_is_imported_once(client: Client, database: Connection, tmp_path: Path) -> None:
    path = tmp_path / "firefox_history_major_releases.json.gz"
    path.write_bytes(gzip.compress(json.dumps(MAJOR, indent=2).encode()))
    assert await imported(client, path) == {"recorded": 3}
    assert await imported(client, path) == {"duplicate": 3}
    path.write_bytes(gzip.compress(json.dumps(MAJOR | {"101.0": "2022-05-31"}).encode()))
    assert await imported(client, path) == {"recorded": 1, "duplicate": 3}
    assert await releases(database) == [
        ("fog", "release", 1, "2004-11-09T00:00"),
        ("fog", "release", 99, "2022-04-05T00:00"),
        ("fog", "release", 100, "2022-05-03T00:00"),
        ("fog", "release", 101, "2022-05-31T00:00"),
    ]


async def test_product_and_channel_are_as_asked_for(client: Client, database: Connection, tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    path.write_text(json.dumps(BETA))
    assert await imported(client, path, Options("fenix", "beta")) == {"recorded": 2}
    assert await releases(database) == [
        ("fenix", "beta", 100, "2022-04-05T00:00"),
        ("fenix", "beta", 101, "2022-05-03T00:00"),
    ]


async def test_what_is_current_tells_each_channel(client: Client, database: Connection, tmp_path: Path) -> None:
    path = tmp_path / "firefox_versions.json"
    path.write_text(json.dumps(CURRENT, indent=1))
    assert await imported(client, path, Options("fog", "nightly")) == {"recorded": 1}
    assert await imported(client, path) == {"recorded": 2, "duplicate": 1}
    assert await releases(database) == [
        ("fog", "beta", 152, "2026-05-18T00:00"),
        ("fog", "nightly", 153, "2026-05-18T00:00"),
        ("fog", "release", 151, "2026-05-19T00:00"),
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [('{"100.0": "2022-05-03",', "not JSON"), ('{"SOMETHING": "else"}', "of no format")],
)
async def test_what_is_no_release_is_told(client: Client, tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "releases.json"
    path.write_text(text)
    with pytest.raises(UnreadableFileError, match=why):
        await imported(client, path)


async def test_events_in_a_json_file_are_still_events(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    event = {"type": "page_viewed", "occurred_at": "2026-11-20T12:00:00Z", "data": {"page": "/"}}
    path.write_text(json.dumps(event) + "\n")
    assert await imported(client, path) == {"recorded": 1}
