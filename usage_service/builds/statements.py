"""Statements that read the pings of builds in the warehouse, as builders noted them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection


class BuildStatement(msgspec.Struct, frozen=True):
    """The statement of a build, with its parameters as BigQuery's API has them, and the bytes that the build read.

    Where it `is_shared`, the statement reads several probes, and the bytes are this one's share.
    """

    build_id: UUID
    product: str
    channel: str
    probe: str
    bytes: int | None
    is_shared: bool
    sql: str
    parameters: list[dict[str, Any]]


async def find_statement(connection: Connection, build_id: UUID) -> BuildStatement | None:
    """Return the statement of a build, None where it is not known."""
    row = await connection.fetchrow(query("statements", "of_build"), build_id)
    return BuildStatement(**row) if row else None
