"""Revisions of builds come from CSV or JSON, the same ids each time; of an hour the last build counts."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.servers import Client, Connection, JsonObject
from tests.support.traffic import fold_all
from usage_service.imports.importing import import_file
from usage_service.imports.lines import NO_OPTIONS, Options
from usage_service.imports.refusals import UnreadableFileError
from usage_service.imports.stats import ImportStats

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
FOG = Options("fog")
FORMS = {
    "revisions.csv": CSV,
    "revisions.json": json.dumps(ROWS, indent=2),
    "revisions.ndjson": "\n".join(map(json.dumps, ROWS)),
}


async def imported(client: Client, path: Path, options: Options = NO_OPTIONS) -> ImportStats:
    return await import_file(path, str(client.make_url("/")), None, options)


async def folded(database: Connection) -> list[tuple[str, ...]]:
    await fold_all(database)
    rows = await database.fetch("SELECT product, channel, build_hour, revision FROM build_revisions ORDER BY 1, 2, 3")
    return [tuple(row) for row in rows]


async def test_every_form_says_the_same(client: Client, database: Connection, tmp_path: Path) -> None:
    expected = {"recorded": 3}
    for name, text in FORMS.items():
        path = tmp_path / f"{name}.gz"
        path.write_bytes(gzip.compress(text.encode()))
        assert (await imported(client, path, FOG)).statuses == expected
        expected = {"duplicate": 3}
    assert await folded(database) == FOLDED
    times = await database.fetch("SELECT DISTINCT occurred_at FROM event_log")
    assert [row[0] for row in times] == [datetime(2026, 11, 19, 10, tzinfo=UTC)]


async def test_the_product_is_as_asked_for(client: Client, database: Connection, tmp_path: Path) -> None:
    path = tmp_path / "revisions.json"
    path.write_text(json.dumps(ROWS[0]))
    await imported(client, path, Options("firefox", None))
    assert [row[0] for row in await folded(database)] == ["firefox"]


GOOD = {"product": "fog", "channel": "nightly", "build_id": "2026111910", "revision": "aaaaaaa1"}
WRONG: list[tuple[str, JsonObject]] = [
    ("build_id: must begin with the hour of the build", {"build_id": "2026139910"}),
    ("build_id: must be 10 to 14 digits", {"build_id": "today"}),
    ("build_id: Expected `str`, got `int`", {"build_id": 2026111910}),
    ("build_id: must be 10 to 14 digits", {"build_id": "2026111910" * 2}),
    ("revision: must be 7 to 64 hexadecimal digits", {"revision": "a b"}),
    ("revision: Expected `str`, got `null`", {"revision": None}),
    ("channel: Expected `str`, got `null`", {"channel": None}),
    ("product: must be small letters", {"product": "FOG"}),
    ("repository: is not known", {"repository": "mozilla-central"}),
    ("product: is not in the row; say which it is with --product", {"product": ""}),
]
# Cells of a line after "channel,build_id,revision".
WRONG_CELLS = {
    "nightly,2026111910,a b": "revision: must be 7 to 64 hexadecimal digits",
    "nightly": "has 1 cells where the first line has 3",
    ",2026111910,aaaaaaa1": "channel: must be small letters",
    "nightly,2026111910,aaaaaaa1,more": "has 4 cells where the first line has 3",
}


async def test_what_is_wrong_is_named_as_the_file_names_it(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([GOOD | changed for _, changed in WRONG] + [GOOD]))
    stats = await imported(client, path)
    assert stats.statuses == {"refused": len(WRONG), "recorded": 1}
    for number, ((why, _), refusal) in enumerate(zip(WRONG, stats.refusals, strict=True), 1):
        assert refusal.startswith(f"a.json:{number}: {why}"), refusal
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["channel,build_id,revision", *WRONG_CELLS]))
    stats = await imported(client, path, FOG)
    assert stats.statuses == {"refused": len(WRONG_CELLS)}
    for number, (why, refusal) in enumerate(zip(WRONG_CELLS.values(), stats.refusals, strict=True), 2):
        assert refusal.startswith(f"a.csv:{number}: {why}"), refusal


async def test_what_is_no_revision_is_refused(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text, why in (
        ('[{"channel": "nightly"}]', "of no format"),
        ("[1", "of no format"),
        ("[1]", "of no format"),
    ):
        path.write_text(text)
        with pytest.raises(UnreadableFileError, match=why):
            await imported(client, path)
