"""The list that a run of the ETL was given: by name, made once, the same for ever."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from usage_service.hotlist.listing import HotList
from usage_service.queries import query
from usage_service.shared.postgres import Connection


class Asked(msgspec.Struct, frozen=True):
    """What a run asked for."""

    product: str | None
    budget: int | None
    coverage: float | None
    until: datetime | None


class Run(msgspec.Struct, frozen=True):
    """The list of a run, and up to where it had seen the log."""

    run: str
    asked: Asked
    made_at: datetime
    log_position: int
    list: HotList
    is_new: bool = False


async def keep_list(connection: Connection, run: str, asked: Asked, position: int, made: HotList) -> Run:
    """Keeps a list as that of the run; where the run has one already, that one and what was asked for then."""
    text = msgspec.json.encode(made).decode()
    row = await connection.fetchrow(query("hotlist", "keep"), run, msgspec.to_builtins(asked), position, text)
    return _run(dict(row or {}))


async def find_run(connection: Connection, run: str) -> Run | None:
    """The run of this name, if there is one."""
    row = await connection.fetchrow(query("hotlist", "kept"), run)
    return _run(dict(row)) if row else None


def _run(row: dict[str, Any]) -> Run:
    return msgspec.convert(row | {"list": msgspec.json.decode(row["list"])}, Run)
