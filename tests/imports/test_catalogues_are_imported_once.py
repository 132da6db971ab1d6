"""A catalogue that is imported again records nothing again, by whatever name; the service then answers what it says."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

from tests.support.servers import Client, Connection
from tests.support.traffic import assert_as_the_reference, fold_all
from usage_service.imports.importing import import_file
from usage_service.imports.lines import NO_OPTIONS, Options
from usage_service.stats.catalogue import find_entry, search

CORPUS = Path(__file__).parents[1] / "data" / "imports"
FOG = Options("fog")


async def imported(client: Client, path: Path, options: Options = NO_OPTIONS) -> dict[str, int]:
    return (await import_file(path, str(client.make_url("/")), None, options)).statuses


async def test_what_was_scraped_is_what_is_answered(client: Client, database: Connection, tmp_path: Path) -> None:
    path = CORPUS / "probe-scraper" / "firefox-desktop-metrics.json"
    assert await imported(client, path) == {"recorded": 9, "refused": 8}
    packed = tmp_path / "another name.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert await imported(client, packed, FOG) == {"duplicate": 9, "refused": 8}
    page = CORPUS / "glean-dictionary" / "data_javascript_gc_total_time.json"
    assert await imported(client, page) == {"duplicate": 2}
    assert await imported(client, CORPUS / "probe-scraper" / "all_probes.json") == {"recorded": 2, "refused": 3}
    await fold_all(database)
    await assert_as_the_reference(database)
    entry = await find_entry(database, "fog", "javascript_gc_total_time")
    assert entry is not None
    assert (entry.metric_type, entry.pings, entry.retired) == ("timing_distribution", ["baseline", "metrics"], False)
    assert (entry.description, entry.expires) == ("The duration of the garbage collection.", "never")
    assert entry.registered_at == datetime(2023, 1, 10, 0, 23, 4, tzinfo=UTC)
    gone = await find_entry(database, "fog", "glean_error_invalid_label")
    assert gone is not None
    assert (gone.retired, gone.disabled, gone.expires, gone.labels) == (True, True, "2024-01-01", [])
    [legacy] = await search(database, "firefox", "gc_ms", 0, 10)
    assert (legacy.metric_type, legacy.buildable) == ("histogram-exponential", False)


async def test_the_catalogue_of_another_day_tells_what_changed(client: Client, database: Connection) -> None:
    path = CORPUS / "metrics-yaml" / "metrics.yaml"
    assert await imported(client, path, FOG) == {"recorded": 7, "refused": 7}
    assert await imported(client, path, FOG) == {"duplicate": 7, "refused": 7}
    another_day = Options("fog", as_of=datetime(2026, 11, 1, tzinfo=UTC))
    for status in ("recorded", "duplicate"):
        assert await imported(client, path, another_day) == {status: 7, "refused": 7}
    await fold_all(database)
    entry = await find_entry(database, "fog", "javascript_gc_minor_reason")
    assert entry is not None
    assert entry.registered_at == datetime(2026, 11, 1, tzinfo=UTC)
