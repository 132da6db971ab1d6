"""Hot lists of runs of the ETL: kept by the name of the run, made once and never changed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from usage_service.hotlist.listing import HotList
from usage_service.queries import query
from usage_service.shared.postgres import Connection


class Asked(msgspec.Struct, frozen=True):
    """Parameters that a run asked for its list with."""

    product: str | None
    budget: int | str | None
    coverage: float | None
    until: datetime | None


class Run(msgspec.Struct, frozen=True):
    """List of a run, and the position up to which it is made of the log."""

    run: str
    asked: Asked
    made_at: datetime
    log_position: int
    list: HotList
    is_new: bool = False


async def keep_list(connection: Connection, run: str, asked: Asked, position: int, made: HotList) -> Run:
    """Keep a list as that of the run, and return it; when the run has one already, return that one unchanged."""
    text = msgspec.json.encode(made).decode()
    row = await connection.fetchrow(query("hotlist", "keep"), run, msgspec.to_builtins(asked), position, text)
    return _run(dict(row or {}))


async def find_run(connection: Connection, run: str) -> Run | None:
    """Return the run of this name, or None."""
    row = await connection.fetchrow(query("hotlist", "kept"), run)
    return _run(dict(row)) if row else None


def _run(row: dict[str, Any]) -> Run:
    return msgspec.convert(row | {"list": msgspec.json.decode(row["list"])}, Run)
