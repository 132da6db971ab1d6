"""The questions of the guide to the mirror are valid GoogleSQL, and their answers are those of the events."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter, defaultdict
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.support import reference
from tests.support.googlesql import GoogleSql
from tests.support.mirrors import NAME, RULES, mirror_all
from tests.support.reference_engine import Type
from tests.support.servers import Connection, JsonObject
from tests.support.snippets import snippets
from tests.support.traffic import append_traffic, logged
from tests.support.warehouse_support import rows
from usage_service.log.mirrored import MirrorPlace
from usage_service.mirror.views import EVENTS, POPULARITY, SESSIONS, views
from usage_service.shared.bigquery.statement import Statement

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "mirror.md").read_text("utf-8")
QUESTIONS = [one.text.replace("my-project.usage", NAME) for one in snippets("docs/guides/mirror.md", "sql")]
ALL_SESSIONS = "SELECT * FROM `glam-project.usage.sessions` ORDER BY visitor, started_at"
UNTIL = date(2026, 11, 24)
ARRAYS = {"tools_left", "products", "probes", "controls"}
KINDS: dict[str, Type] = {
    **dict.fromkeys(("position", "schema_version", "views", "found", "missing", "visitors"), "INT64"),
    **dict.fromkeys(("occurred_at", "recorded_at", "started_at", "ended_at"), "TIMESTAMP"),
    **{name: ["STRING"] for name in ARRAYS},
    "day": "DATE",
    "bot": "BOOL",
    "late": "BOOL",
}


@pytest.fixture
async def log(database: Connection, database_url: str, place: MirrorPlace) -> list[JsonObject]:
    """Return the events of a log that is mirrored, with the pseudonyms of visitors."""
    place.client().delete_dataset(NAME, delete_contents=True, not_found_ok=True)
    await append_traffic(database, 400)
    await mirror_all(database_url, place)
    return await logged(database)


def score(events: list[JsonObject]) -> list[tuple[Any, ...]]:
    found: dict[tuple[str, str], float] = defaultdict(float)
    for (product, day, probe, _, bot), viewed in reference.popularity(events).items():
        if not bot:
            found[product, probe] += (viewed.found + viewed.missing) * 0.5 ** ((UNTIL - day).days / 7)
    return [(*key, pytest.approx(found[key])) for key in sorted(found, key=lambda key: (-found[key], key))]


def most_viewed(events: list[JsonObject]) -> list[tuple[Any, ...]]:
    of_fog = [item for item in events if item["type"] == "probe_viewed" and item["product"] == "fog"]
    visitors = defaultdict(set)
    for item in of_fog:
        visitors[item["probe"]].add(item["visitor"])
    counted = Counter(item["probe"] for item in of_fog)
    ordered = sorted(counted, key=lambda probe: (-counted[probe], probe))
    return [(probe, counted[probe], len(visitors[probe] - {None})) for probe in ordered]


def not_built(events: list[JsonObject]) -> list[tuple[Any, ...]]:
    found: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0])
    for (product, _, probe, channel, bot), viewed in reference.popularity(events).items():
        if not bot:
            found[product, channel, probe][0] += viewed.missing
            found[product, channel, probe][1] += viewed.found + viewed.missing
    missed = {key: numbers for key, numbers in found.items() if numbers[0]}
    return [(*key, *missed[key]) for key in sorted(missed, key=lambda key: (-missed[key][0], key))][:20]


def origins(events: list[JsonObject]) -> list[tuple[Any, ...]]:
    found, went_on = Counter[str](), Counter[str]()
    for session in reference.sessions(events):
        if session.came_from and not session.bot:
            found[session.came_from] += 1
            went_on[session.came_from] += session.role == "in_between"
    return [(name, found[name], went_on[name]) for name in sorted(found, key=lambda one: (-found[one], one))][:20]


def together(events: list[JsonObject]) -> list[tuple[Any, ...]]:
    found = Counter(
        other
        for session in reference.sessions(events)
        if "gc_ms" in session.probes
        for other in session.probes
        if other != "gc_ms"
    )
    return [(name, found[name]) for name in sorted(found, key=lambda one: (-found[one], one))]


ANSWERS = [score, most_viewed, not_built, origins, together]


async def test_each_question_is_answered_as_by_the_events(log: list[JsonObject], place: MirrorPlace) -> None:
    assert len(QUESTIONS) == len(ANSWERS)
    for question, answer in zip(QUESTIONS, ANSWERS, strict=True):
        expected = answer(log)
        assert expected, question
        assert rows(place.client(), question) == expected, question


async def test_sessions_are_those_of_the_reference(log: list[JsonObject], place: MirrorPlace) -> None:
    found: list[tuple[Any, ...]] = rows(place.client(), ALL_SESSIONS)
    expected = reference.sessions(log)
    assert len(found) == len(expected)
    for row, session in zip(found, expected, strict=True):
        named = dict(zip(SESSIONS, row, strict=True))
        assert named.pop("day") == session.started_at.date()
        lists = {name: tuple(sorted(named[name])) for name in ARRAYS}
        assert named | lists == vars(session)


@pytest.mark.skipif(importlib.util.find_spec("zetasql") is None, reason="zetasql is not installed")
@pytest.mark.timeout(300)  # the first run on a machine compiles the analyzer
def test_each_question_is_googlesql() -> None:
    tables = {"events": EVENTS, "popularity": POPULARITY, "sessions": SESSIONS}
    catalog = {f"{NAME}.{name}": {one: KINDS.get(one, "STRING") for one in columns} for name, columns in tables.items()}
    catalog[f"{NAME}.sessions"]["events"] = "INT64"
    googlesql = GoogleSql(catalog)
    for question in QUESTIONS:
        assert googlesql.columns(Statement("question", question, ()))


def test_the_guide_tells_of_every_column() -> None:
    place = MirrorPlace(NAME, "http://127.0.0.1:1")
    for view in views(place, RULES):
        part = GUIDE[GUIDE.index(f"**`{view.name}`**") :]
        table = part[part.index("| column |") : part.index("\n\n", part.index("| column |"))]
        named = re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines()))
        assert sorted(named) == sorted(view.columns), view.name
