"""Catalogues of all forms register the same probes: their types, labels, pings, expiry, owners and descriptions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from usage_service.events import ProbeRegisteredData
from usage_service.imports import yaml_items
from usage_service.imports.formats import format_of
from usage_service.imports.lines import Line, Options
from usage_service.imports.refusals import UnreadableFileError
from usage_service.imports.source import open_source
from usage_service.imports.yaml_items import MOST_DEPTH, read_items

CORPUS = Path(__file__).parents[1] / "data" / "imports"
DICTIONARY = "https://dictionary.telemetry.mozilla.org/apps/firefox_desktop/metrics/"
OWNERS = ["dev-telemetry-gc-alerts@example.org"]
HEAD = "$schema: moz://mozilla.org/schemas/glean/metrics/2-0-0\n"


def read(path: Path, form: str, product: str | None = None) -> list[Line]:
    with open_source(path) as source:
        chosen = format_of(source.head, source.name)
        assert chosen.name == form
        return list(chosen.lines(source, Options(product)))


def registered(lines: list[Line]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return the latest data of each product, probe and ping, all of which the service takes."""
    found = {}
    for line in lines:
        for event in line.events:
            if event["type"] == "probe_registered":
                msgspec.convert(event["data"], ProbeRegisteredData)
                found[event["product"], event["probe"], event["data"]["ping"]] = event["data"]
    return found


def retired(lines: list[Line]) -> dict[str, str | None]:
    events = [event for line in lines for event in line.events if event["type"] == "probe_retired"]
    return {event["probe"]: event.get("occurred_at") for event in events}


def refused(lines: list[Line]) -> dict[str | None, str]:
    return {line.refusal.where: line.refusal.reason for line in lines if line.refusal}


def test_metrics_of_probe_scraper() -> None:
    lines = read(CORPUS / "probe-scraper" / "firefox-desktop-metrics.json", "probe-scraper")
    found = registered(lines)
    assert found["fog", "javascript_gc_total_time", "baseline"] == {
        "type": "timing_distribution",
        "ping": "baseline",
        "description": "The duration of the garbage collection.",
        "owners": OWNERS,
        "expires": "never",
        "link": DICTIONARY + "javascript_gc_total_time",
    }
    assert found["fog", "glean_error_invalid_label", "metrics"]["labels"] == []
    assert found["fog", "glean_error_invalid_label", "metrics"]["disabled"] is True
    assert found["fog", "browser_engagement_tabs", "metrics"]["labels"] == ["pinned", "normal"]
    assert len(found["fog", "browser_engagement_tabs", "metrics"]["owners"]) == 20
    assert found["fog", "network_cache_size", "metrics"]["range_min"] == 1
    assert len(found["fog", "network_cache_size", "metrics"]["description"]) == 2_000
    assert found["fog", "nimbus_enroll", "events"]["type"] == "event"
    assert found["fog", "hostile_first", "metrics"]["type"] == "counter"
    assert retired(lines) == {"glean_error_invalid_label": "2024-02-01T00:00:00+00:00"}
    times = [event["occurred_at"] for line in lines[:3] for event in line.events]
    assert times == ["2023-01-10T00:23:04+00:00", *2 * ["2023-06-03T09:00:00+00:00"]]
    assert set(refused(lines)) == {
        "hostile.no_history",
        "hostile.no_dates/history/0/dates",
        "hostile.labels/history/0/labels/1",
        "hostile.first/history/0/disabled",
        "hostile name/history/0",
        "hostile.year/history/0/dates",
        "hostile.buckets/history/0",
        "hostile.text",
    }


def test_a_later_scrape_adds_what_is_new_and_nothing_else(tmp_path: Path) -> None:
    whole = msgspec.json.decode((CORPUS / "probe-scraper" / "firefox-desktop-metrics.json").read_bytes())
    metric = whole["javascript.gc.total_time"]
    earlier = {"javascript.gc.total_time": metric | {"history": metric["history"][:1]}}
    later = {"javascript.gc.total_time": metric}
    for name, document in (("earlier", earlier), ("later", later)):
        (tmp_path / f"fenix-{name}.json").write_bytes(msgspec.json.encode(document))
    before, after = ([line.events for line in read(tmp_path / f"fenix-{name}.json", "probe-scraper")]
                     for name in ("earlier", "later"))  # fmt: skip
    assert after[: len(before)] == before
    assert [events[0]["product"] for events in after] == ["fenix"] * 3


def test_probes_of_firefox_before_glean() -> None:
    lines = read(CORPUS / "probe-scraper" / "all_probes.json", "probe-scraper")
    found = registered(lines)
    assert found["firefox", "gc_ms", "main"]["type"] == "histogram-exponential"
    assert found["firefox", "gc_ms", "main"]["description"] == "Time spent running JS GC (ms)"
    assert found["firefox", "browser_engagement_total_uri_count", "main"]["type"] == "keyed-scalar-uint"
    assert found["firefox", "browser_engagement_total_uri_count", "main"]["expires"] == "60"
    assert lines[0].events[0]["occurred_at"] == "2015-05-11T12:00:00+00:00"
    assert len(refused(lines)) == 3
    assert [line.number for line in lines if line.left_out] == [3]


def test_an_index_of_the_glean_dictionary() -> None:
    lines = read(CORPUS / "glean-dictionary" / "index.json", "glean-dictionary")
    found = registered(lines)
    assert found["fenix", "events_normal_and_private_uri_count", "metrics"]["expires"] == "never"
    assert found["fenix", "search_default_engine", "metrics"]["expires"] == "2027-02-01"
    assert found["fenix", "nimbus_enroll", "events"]["type"] == "event"
    assert retired(lines) == {"addons_gone": None}
    assert set(refused(lines)) == {
        "hostile.description/description",
        "hostile/name",
        "7/name",
        "hostile.type/type",
        "9",
    }


def test_a_metric_of_the_glean_dictionary_is_that_of_probe_scraper() -> None:
    page = read(CORPUS / "glean-dictionary" / "data_javascript_gc_total_time.json", "glean-dictionary")
    scraped = read(CORPUS / "probe-scraper" / "firefox-desktop-metrics.json", "probe-scraper")
    assert [line.events for line in page] == [line.events for line in scraped[1:3]]


def test_units_are_kept(tmp_path: Path) -> None:
    table = tmp_path / "probes.csv"
    table.write_text(
        "product,probe,type,unit,time_unit\nfog,a,quantity,pixels,\nfog,b,timespan,,second\nfog,c,timespan,,ms\n"
    )
    lines = read(table, "catalogue-csv")
    assert [{name: one for name, one in data.items() if "unit" in name} for data in registered(lines).values()] == [
        {"unit": "pixels"}, {"time_unit": "second"},
    ]  # fmt: skip
    [refusal] = [line.refusal for line in lines if line.refusal]
    assert refusal.field == "time_unit"
    metrics = tmp_path / "metrics.yaml"
    size = "  c:\n    type: memory_distribution\n    memory_unit: kilobyte\n"
    metrics.write_text(f"{HEAD}\na:\n  b:\n    type: quantity\n    unit: {'x' * 200}\n{size}")
    found = registered(read(metrics, "metrics-yaml", "fog"))
    assert found["fog", "a_b", "metrics"]["unit"] == "x" * 100
    assert found["fog", "a_c", "metrics"]["memory_unit"] == "kilobyte"


def test_metrics_yaml() -> None:
    lines = read(CORPUS / "metrics-yaml" / "metrics.yaml", "metrics-yaml", "fog")
    found = registered(lines)
    assert found["fog", "javascript_gc_total_time", "metrics"] == {
        "type": "timing_distribution",
        "ping": "metrics",
        "description": "The duration of the garbage collection.",
        "owners": OWNERS,
        "expires": "never",
        "link": DICTIONARY + "javascript_gc_total_time",
        "time_unit": "millisecond",
    }
    reason, minor = (found["fog", f"javascript_gc_{name}", "baseline"] for name in ("reason", "minor_reason"))
    assert (reason["labels"], reason["expires"], reason["disabled"]) == (["alloc", "last_ditch"], "2027-02-01", True)
    assert (minor["labels"], minor["expires"], minor["owners"]) == ([], "150", OWNERS)
    assert found["fog", "javascript_gc_size", "metrics"]["bucket_count"] == 10
    assert found["fog", "nimbus_enroll", "events"]["type"] == "event"
    assert refused(lines).keys() == {
        "hostile.no_type/type",
        "hostile.twice",
        "hostile.no name",
        "hostile.wrong_buckets/range_max",
        "hostile.wrong_labels/labels",
        "hostile.a_list",
        "a_text",
    }
    assert [line.number for line in lines] == sorted(line.number for line in lines)
    assert {"line 58: has 'type' twice"} <= set(refused(lines).values())


@pytest.mark.parametrize(("name", "why"), [("bomb.yaml", "aliases counted"), ("broken.yaml", "is not YAML")])
def test_what_is_before_a_fault_of_yaml_is_read(name: str, why: str) -> None:
    lines = read(CORPUS / "metrics-yaml" / name, "metrics-yaml", "fog")
    assert ("fog", "good_one", "metrics") in registered(lines)
    assert lines[-1].refusal is not None
    assert why in lines[-1].refusal.reason


MERGES = "a: &a {k: 1, l: 2}\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} {{<<: [{','.join(['*' + chr(97 + n)] * 50)}]}}\n" for n in range(9)
)
FEW_VALUES = 5_000
HOSTILE = {
    "a: " + "[" * 100_000: "deep|nesting",
    "{a: " * 100_000: "nested more than",
    "a:\n" + "".join(f"{' ' * depth}b{depth}:\n" for depth in range(1, MOST_DEPTH + 2)): "nested more than",
    "a: [" + "x," * FEW_VALUES + "x]": "more than",
    MERGES: "aliases counted",
    "a: {b: '\ud800'}": "surrogates",
    "a: &b [*b]": r"\*b",
    "a: {<<: 1}": "merges",
    "? [a]\n: b": "no text",
    "- a": "mapping of categories",
    "a: 1\n---\nb: 2": "second document",
    "a:\n  b: 'open": "is not YAML",
    "a: {b: 1, b: 2}": "twice",
}


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_yaml_is_one_fault(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_items, "MOST_VALUES", FEW_VALUES)
    faults = [item.fault for item in read_items(text) if item.fault]
    assert len(faults) == 1
    assert re.search(HOSTILE[text], faults[0])


def test_nothing_is_constructed() -> None:
    [item] = read_items("a: !!python/object/apply:os.system [echo]\n")
    assert item.value == ["echo"]


@pytest.mark.parametrize("name", ["metrics.yaml", "pings.yaml"])
def test_of_which_product_it_is_has_to_be_said(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(HEAD.replace("metrics", name.removesuffix(".yaml")) + "a:\n  b:\n    type: counter\n")
    with pytest.raises(UnreadableFileError, match="--product" if name == "metrics.yaml" else "defines no metrics"):
        read(path, "metrics-yaml")


def test_a_contradiction_is_told_and_not_obeyed() -> None:
    with pytest.raises(UnreadableFileError, match="is of firefox-desktop, which is fog and not fenix"):
        read(CORPUS / "probe-scraper" / "firefox-desktop-metrics.json", "probe-scraper", "fenix")
    with pytest.raises(UnreadableFileError, match="is of fenix, which is fenix and not fog"):
        read(CORPUS / "glean-dictionary" / "index.json", "glean-dictionary", "fog")
    lines = read(CORPUS / "catalogue-csv" / "probes.csv", "catalogue-csv", "fog")
    assert "is fenix and not fog, as --product says" in {line.refusal.reason for line in lines if line.refusal}


def test_the_catalogue_as_csv() -> None:
    lines = read(CORPUS / "catalogue-csv" / "probes.csv", "catalogue-csv")
    assert set(registered(lines)) == {
        ("fog", "gc_ms", "metrics"),
        ("fog", "gc_ms", "baseline"),
        ("fog", "slow_ms", "baseline"),
        ("fenix", "a11y_backplate", "metrics"),
    }
    assert [(line.number, line.refusal.field) for line in lines if line.refusal] == [
        (5, "product"),
        (6, "probe"),
        (7, "type"),
        (8, None),
    ]
