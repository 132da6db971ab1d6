"""Rules that operators set: a pinned probe is always on the hot list, an excluded one is never listed or built."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection

Rule = Literal["pinned", "excluded"]


class RuleOfProbe(msgspec.Struct, frozen=True):
    """Rule of a probe: its reason, who set it, and the position of the event that did."""

    product: str
    probe: str
    rule: Rule
    reason: str
    source: str
    since: datetime
    log_position: int


async def find_rules(connection: Connection, product: str | None) -> list[RuleOfProbe]:
    """Return the rules of a product, or of all, in the order of names."""
    return [RuleOfProbe(**row) for row in await connection.fetch(query("hotlist", "rules"), product)]


async def rules_revision(connection: Connection) -> int:
    """Return a number that changes whenever a rule does."""
    revision: int = await connection.fetchval(query("hotlist", "rules_revision"))
    return revision


async def set_rule(
    connection: Connection, product: str, probe: str, rule: Rule | None, reason: str, source: str
) -> int | None:
    """Set a rule or lift it (None), as an event; return its position, or None when nothing changed."""
    position: int | None = await connection.fetchval(query("hotlist", "set_rule"), product, probe, rule, reason, source)
    return position
