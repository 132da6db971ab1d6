"""The views of analysts: what they say, and what their columns mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from usage_service.events import EVENT_TYPES
from usage_service.log.mirrored import MirrorPlace
from usage_service.log.stored_events import UPCASTS
from usage_service.mirror.columns import COLUMNS
from usage_service.mirror.folds import SessionRules
from usage_service.shared.queries import SqlFolder

Upcast = Callable[[str, int, str], str]
"""A function from a type, a version of it and an expression for data of that version to one for the next version's."""

EVENTS = {name: column.meaning for name, column in COLUMNS.items() if name not in ("digest", "load_after")} | {
    "late": "Whether it was recorded more than 24 hours after it occurred.",
}
POPULARITY = {
    "day": "The day (UTC). Filter by it, or the whole log is read.",
    "product": "The product of the probe.",
    "probe": "The probe that was viewed.",
    "channel": "The channel that it was viewed of; empty where none was named.",
    "bot": "Whether a program viewed it.",
    "views": "How often it was viewed.",
    "found": "Views of data that was there.",
    "missing": "Views of a probe that was not built.",
    "visitors": "How many visitors viewed it that day. Days cannot be added up: count visitors in `events` for longer.",
}
SESSIONS = {
    "visitor": "The pseudonym of who it was.",
    "day": "The day (UTC) that it began. The whole log is read all the same.",
    "started_at": "When its first event occurred.",
    "ended_at": "When its last event occurred.",
    "events": "How many events it has.",
    "bot": "Whether any of them was of a program.",
    "first_page": "The first page that was viewed.",
    "last_page": "The last page that was viewed.",
    "referrer": "The referrer of the first page.",
    "came_from": "The tool that this referrer stands for, else its host; NULL for the app itself and what is no host.",
    "tools_left": "The tools that a link was followed to. Of this and of the lists below 101 names at most.",
    "products": "The products that it is about.",
    "probes": "The probes that were viewed.",
    "controls": "The controls that were changed.",
    "role": "In the workflow: whole, starting_point, endpoint or in_between, by came_from and tools_left.",
}
render = SqlFolder(Path(__file__).parent / "sql").template
render_upcast = SqlFolder(Path(__file__).parent / "sql" / "upcasts").template


class View(NamedTuple):
    """A view: its name, its query, what it is of, and what its columns mean."""

    name: str
    text: str
    meaning: str
    columns: Mapping[str, str]


def views(place: MirrorPlace, rules: SessionRules) -> list[View]:
    """Return the views of a mirror, those that others read first."""
    folded = rules.fold(f"`{place.view}`")
    return [
        View(
            "events",
            events_text(place.table),
            "Events as they are today: older ones are brought to the current version of their type.",
            EVENTS,
        ),
        View("popularity", render("popularity", **folded), "How often each probe was viewed, a day.", POPULARITY),
        View(
            "sessions",
            render("sessions", **folded),
            f"What a visitor did without a pause of {rules.gap_minutes} minutes.",
            SESSIONS,
        ),
    ]


def events_text(table: str) -> str:
    """Return the query of the view of events, which brings older events to the current version of their type."""
    current = {kind: found.schema_version for kind, found in EVENT_TYPES.items()}
    return render("events", table=table, **upcasting(sorted(UPCASTS), current, _upcast))


def _upcast(kind: str, version: int, data: str) -> str:
    return render_upcast(f"{kind}_{version}", data=data)


def upcasting(older: Iterable[tuple[str, int]], current: Mapping[str, int], upcast: Upcast) -> dict[str, str]:
    """Return expressions for the current version and data of events, given the types and versions that are older."""
    versions, texts = "", ""
    for kind, version in older:
        data = "data"
        for step in range(version, current[kind]):
            data = upcast(kind, step, data)
        versions += f"WHEN type = '{kind}' AND schema_version = {version} THEN {current[kind]} "
        texts += f"WHEN type = '{kind}' AND schema_version = {version} THEN {data} "
    return {
        "schema_version": f"CASE {versions}ELSE schema_version END" if versions else "schema_version",
        "data": f"CASE {texts}ELSE data END" if texts else "data",
    }
