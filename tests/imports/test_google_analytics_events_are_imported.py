"""Single events of Google Analytics 4 become what they say; what has totals only is refused with what to export."""

from __future__ import annotations

from pathlib import Path

import pytest

from usage_service.imports.formats import format_of
from usage_service.imports.lines import NO_OPTIONS, Line
from usage_service.imports.refusals import UnreadableFileError
from usage_service.imports.source import open_source

CORPUS = Path(__file__).parents[1] / "data" / "imports" / "ga4"
WHO = "1234567890.1753000000"
AT = "2026-08-26T10:00:{}.123456+00:00"
TOTALS = {
    "pages.csv": "is a report that was saved as CSV",
    "report.json": "is a report of Google Analytics",
    "ga_sessions_20200826.ndjson": "has sessions of Universal Analytics",
    "pseudonymous_users_20260826.ndjson": "has users of Google Analytics",
}


def read(path: Path) -> list[Line]:
    with open_source(path) as source:
        chosen = format_of(source.head, source.name)
        assert chosen.name == "ga4"
        return list(chosen.lines(source, NO_OPTIONS))


def test_events_become_what_the_rules_make_of_their_pages() -> None:
    lines = {line.number: line for line in read(CORPUS / "events_20260826.ndjson")}
    page, view = lines[1].events
    who = {"product": "fog", "visitor": WHO, "occurred_at": AT.format("00")}
    came = {"page": "/fog/probe/gc_ms/explore", "referrer": "dictionary.telemetry.mozilla.org"}
    assert page == who | {"type": "page_viewed", "data": came}
    assert view == who | {"type": "probe_viewed", "probe": "gc_ms", "data": {"found": True, "os": "Windows"}}
    assert [event["type"] for event in lines[4].events] == ["page_viewed"]  # no rule knows the home page
    assert lines[5].events == [{
        "type": "link_followed", "occurred_at": AT.format("06"), "visitor": WHO,
        "data": {"tool": "bugzilla.mozilla.org", "url": "https://bugzilla.mozilla.org/show_bug.cgi?id=1"},
    }]  # fmt: skip
    assert all("visitor" not in event for event in lines[17].events)  # who did not consent, with a number for a time
    left_out = {number: line.left_out for number, line in lines.items() if line.left_out}
    assert left_out == {2: "event session_start", 3: "event user_engagement", 7: "event view_search_results"}
    refused = {number: line.refusal.field for number, line in lines.items() if line.refusal}
    assert refused == {
        6: None, 8: None, 9: "event_timestamp", 10: "event_params/0/value/string_value", 11: "event_timestamp",
        12: "event_params/page_location", 13: "event_params/page_location", 15: "event_params/0/value",
        16: "event_timestamp",
    }  # fmt: skip


def test_totals_are_refused_with_what_to_export() -> None:
    for name, why in TOTALS.items():
        with pytest.raises(UnreadableFileError, match=rf"{name}: {why}.*totals.*bq extract"):
            read(CORPUS / name)
