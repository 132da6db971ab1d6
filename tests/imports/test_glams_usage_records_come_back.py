"""GLAM's own records of usage become views of probes; our own usage answer, imported, is answered again."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.support.building import served
from tests.support.servers import Client, event, post
from usage_service.imports.formats import format_of
from usage_service.imports.importing import import_file
from usage_service.imports.lines import NO_OPTIONS, Line, Options
from usage_service.imports.refusals import UnreadableFileError
from usage_service.imports.source import open_source

CORPUS = Path(__file__).parents[1] / "data" / "imports" / "glam-usage"
FIELDS = "action_type,timestamp,probe_name,product,channel,tracking_id,context"
VIEWED = {"type": "probe_viewed", "product": "fog", "probe": "gc_ms"}
OF_THE_QUERY = {"found": True, "ping_type": "*", "os": "*", "aggregation_level": "version"}


def read(path: Path, options: Options = NO_OPTIONS) -> list[Line]:
    with open_source(path) as source:
        chosen = format_of(source.head, source.name)
        assert chosen.name == "glam-usage"
        return list(chosen.lines(source, options))


def test_a_row_of_the_table_is_a_view_with_what_its_query_says() -> None:
    by_number = {line.number: line for line in read(CORPUS / "glam_usage_instrumentation.csv")}
    view = VIEWED | {"occurred_at": "2026-08-26T10:00:00.123456+00:00", "channel": "nightly", "data": OF_THE_QUERY}
    assert by_number[2].events == by_number[3].events == [view]  # the same instant in another zone
    assert by_number[4].events[0]["product"] == "firefox"  # a channel and no product: GLAM's legacy telemetry
    assert by_number[14].events[0]["visitor"] == "a-browser"
    assert by_number[13].left_out == "action_type is not PROBE_SEARCH"
    refused = {number: line.refusal.field for number, line in by_number.items() if line.refusal}
    assert refused == {
        5: "timestamp", 6: "context", 7: "probe_name", 8: "product", 9: "timestamp", 10: "context/os", 11: None,
        12: "timestamp",
    }  # fmt: skip


def test_a_record_of_the_call_is_a_view_with_the_versions_that_it_lists() -> None:
    lines = read(CORPUS / "usage.json")
    assert lines[0].events[0]["data"] == {"found": True, "versions": [150, 149]}
    assert lines[-1].events[0]["data"] == {"found": False}
    fields = [line.refusal.field for line in lines if line.refusal]
    assert fields == ["product", "timestamp", "timestamp", "probe_name", "user", "probe_name", None]


def test_options_say_what_a_record_does_not_and_never_what_it_does(tmp_path: Path) -> None:
    path = tmp_path / "usage.json"
    record = {"timestamp": "2026-08-26T10:00:00Z", "probe_name": "gc_ms"}
    path.write_text(json.dumps([record, record | {"context": {"product": "fenix", "app_id": "beta"}}]))
    [silent, speaking] = [line.events[0] for line in read(path, Options("fog", "nightly"))]
    assert (silent["product"], silent["channel"]) == ("fog", "nightly")
    assert (speaking["product"], speaking["channel"]) == ("fenix", "beta")


def test_numbers_of_records_are_refused_with_what_to_ask_for() -> None:
    with pytest.raises(UnreadableFileError, match="ask for them without `agg=count`"):
        read(CORPUS / "counts.json")


async def test_our_own_answer_comes_back_as_the_same_answer(
    own_database_url: str, client: Client, tmp_path: Path
) -> None:
    views = [
        event("probe_viewed", product="fog", channel="nightly", probe="gc_ms", data={"found": True}),
        event("probe_viewed", product="fog", channel="nightly", probe="gc_ms", data={"found": True}),
        event("probe_viewed", product="fenix", probe="slow_ms", data={"found": True, "os": "Linux", "versions": [9]}),
        event("probe_viewed", product="fog", probe="gone_ms", data={"found": False}),
    ]
    await post(client, *views)
    path = tmp_path / "usage"
    path.write_bytes(gzip.compress(answer := await usage(client)))
    async with served(own_database_url) as other:
        for status in ("recorded", "duplicate"):
            assert (await import_file(path, str(other.make_url("/")), None)).statuses == {status: 3}
        assert await usage(other) == answer


async def usage(client: Client) -> bytes:
    return await (await client.get("/api/v1/usage/", params={"fields": FIELDS})).read()
