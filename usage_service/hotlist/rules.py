"""What operators say of a probe: pinned, it is always on the hot list; excluded, it is neither listed nor built."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection

Rule = Literal["pinned", "excluded"]


class RuleOfProbe(msgspec.Struct, frozen=True):
    """The rule of a probe, why, who set it, and the position of the event that says so."""

    product: str
    probe: str
    rule: Rule
    reason: str
    source: str
    since: datetime
    log_position: int


async def find_rules(connection: Connection, product: str | None) -> list[RuleOfProbe]:
    """All rules of a product, or of all, in the order of names."""
    return [RuleOfProbe(**row) for row in await connection.fetch(query("hotlist", "rules"), product)]


async def rules_mark(connection: Connection) -> int:
    """Changes whenever a rule does."""
    mark: int = await connection.fetchval(query("hotlist", "rules_mark"))
    return mark


async def set_rule(
    connection: Connection, product: str, probe: str, rule: Rule | None, reason: str, source: str
) -> int | None:
    """Sets a rule or lifts it (None), as an event; its position, or None where it was so already."""
    position: int | None = await connection.fetchval(query("hotlist", "set_rule"), product, probe, rule, reason, source)
    return position
