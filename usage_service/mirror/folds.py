"""Folds in GoogleSQL: what the views of analysts and the tables of projections are made of."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from google.cloud.bigquery import ArrayQueryParameter

from usage_service.log.mirrored import MirrorPlace
from usage_service.shared.bigquery.errors import PermanentWorkError
from usage_service.shared.bigquery.statement import Statement, parameters
from usage_service.shared.queries import SqlFolder

TABLES = {
    "popularity": ("popularity_returns", "popularity_series", "popularity_views", "popularity_visitors"),
    "sessions": ("session_counts", "sessions"),
}
NAME_OF_HOST = re.compile(r"[\w.:-]{1,255}")
render = SqlFolder(Path(__file__).parent / "sql" / "projections").template


class SessionRules(NamedTuple):
    """Rules of a session: the pause that ends it, the hosts of the app itself, and the tools by their hosts."""

    gap_minutes: int
    own_hosts: tuple[str, ...]
    tools: Mapping[str, str]

    @classmethod
    def of(cls, settings: Mapping[str, Any], tools: Mapping[str, str]) -> SessionRules:
        """Return the rules that the settings of the projection name."""
        return cls(int(settings["gap_minutes"]), tuple(map(str, settings["own_hosts"])), tools)

    def fold(self, events: str) -> dict[str, str]:
        """Return the places of templates that are made of events: what was viewed, and sessions."""
        for host in self.own_hosts:
            if not NAME_OF_HOST.fullmatch(host):
                raise PermanentWorkError("invalidHost", f"the setting own_hosts of sessions: {host!r} is not a host")
        tools = [f"STRUCT({_text(host)} AS host, {_text(tool)} AS tool)" for host, tool in sorted(self.tools.items())]
        sessions = render(
            "sessions_found",
            events=events,
            gap_minutes=str(self.gap_minutes),
            own_hosts=f"[{', '.join(map(_text, ('', *self.own_hosts)))}]",  # never without a type
            tools=f"[{', '.join(tools)}]",
        )
        return {"viewed": render("viewed", events=events), "sessions": sessions}


def table_statement(
    place: MirrorPlace, table: str, rules: SessionRules, upto: int, left_out: Sequence[int], texts: int
) -> Statement:
    """Return the statement for the rows of a projection's table as of a position, in so many texts or fewer."""
    rows = render(table, **rules.fold(render("folded", view=place.view)))
    values = parameters({"upto": ("INT64", upto), "texts": ("INT64", texts)})
    left = ArrayQueryParameter("left_out", "INT64", sorted(left_out))
    return Statement(table, render("packed", rows=rows), (*values, left))


def _text(text: str) -> str:
    """Return a text as a literal of GoogleSQL, whose escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)
