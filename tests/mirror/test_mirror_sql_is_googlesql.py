"""Statements over the mirror, and its view, are valid GoogleSQL by Google's own analyzer."""

from __future__ import annotations

import importlib.util
from datetime import date

import pytest

from tests.support.googlesql import GoogleSql
from tests.support.mirrors import NAME, OPTIONS, RULES
from tests.support.reference_engine import Type
from usage_service.log.mirrored import Load, MirrorPlace, MirrorSource
from usage_service.log.reading import LogFilter
from usage_service.mirror.columns import COLUMNS
from usage_service.mirror.folds import TABLES, table_statement
from usage_service.mirror.verifying import Verifier
from usage_service.mirror.views import EVENTS, events_text, render, upcasting, views
from usage_service.shared.bigquery.statement import Statement

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("zetasql") is None, reason="zetasql is not installed"),
    pytest.mark.timeout(300),  # the first run on a machine compiles the analyzer
]
PLACE = MirrorPlace(NAME, "http://127.0.0.1:1")
DAYS = date(2026, 11, 20), date(2026, 11, 21)
LOADS = [Load(0, 10, 10, *DAYS), Load(10, 30, 20, *DAYS)]
STANDARD = {"INTEGER": "INT64"}
OLDER = [("page_viewed", 1), ("page_viewed", 2)]


@pytest.fixture(scope="module")
def googlesql() -> GoogleSql:
    columns: dict[str, Type] = {name: STANDARD.get(one.bigquery, one.bigquery) for name, one in COLUMNS.items()}
    of_the_view: dict[str, Type] = {name: columns.get(name, "BOOL") for name in EVENTS}
    return GoogleSql({PLACE.table: columns, PLACE.view: of_the_view})


def upcast(kind: str, version: int, data: str) -> str:
    return f"CONCAT({data}, '{kind} {version}')"


def test_what_is_read_and_verified(googlesql: GoogleSql) -> None:
    verifying = Verifier(PLACE.client(), PLACE, OPTIONS).statement(LOADS)
    assert googlesql.columns(verifying) == ["load_after", "block", "events", "hashed"]
    googlesql.check_change(Verifier(PLACE.client(), PLACE, OPTIONS).removal(LOADS[0]))
    [reading] = MirrorSource(PLACE, "postgresql://nowhere")._statements(LOADS, 3, 20, LogFilter(("x_a", "x_b")), 7)
    assert set(googlesql.columns(reading)) == set(COLUMNS) - {"day", "load_after"}


@pytest.mark.parametrize("table", [table for tables in TABLES.values() for table in tables])
def test_the_rows_of_projections(googlesql: GoogleSql, table: str) -> None:
    assert googlesql.columns(table_statement(PLACE, table, RULES, 30, [7], 3)) == ["packed"]


def test_the_views_of_analysts_have_the_columns_that_are_described(googlesql: GoogleSql) -> None:
    for view in views(PLACE, RULES):
        assert googlesql.columns(Statement(view.name, view.text, ())) == list(view.columns), view.name


def test_the_view_of_events(googlesql: GoogleSql) -> None:
    later = render("events", table=PLACE.table, **upcasting(OLDER, {"page_viewed": 3}, upcast))
    for text in (events_text(PLACE.table), later):
        columns = googlesql.columns(Statement("events", text, ()))
        assert columns[:4] == ["position", "day", "occurred_at", "recorded_at"]
        assert set(columns) == set(COLUMNS) - {"digest", "load_after"} | {"late"}
