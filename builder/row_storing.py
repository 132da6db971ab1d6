"""Storing of a build's rows, in the transaction that ends the build.

The transaction commits in the message that takes the log's lock: a builder that freezes or is cut off between two
messages holds no lock that others wait for.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

import asyncpg

from builder.aggregates.probe import Rows
from builder.queries import query
from usage_service.shared.postgres import Connection
from usage_service.shared.tracing import spanned

ROW_COLUMNS = (  # those of the owner, then those of a ProbeRow
    "product", "channel", "probe", "built_by", "version", "ping_type", "os", "build_id", "metric_type", "metric_key",
    "client_agg_type", "total_users", "total_sample", "histogram", "percentiles", "non_norm_histogram",
    "non_norm_percentiles", "build_date",
)  # fmt: skip


class Owner(NamedTuple):
    """The probe that rows are of, and the build that made them."""

    product: str
    channel: str
    probe: str
    build_id: UUID


async def store_rows(connection: Connection, owner: Owner, rows: Rows, ending: tuple[object, ...]) -> int:
    """Store the rows, end the build, and return how many rows these are.

    `ending` is the statement of queue.sql that ends it and commits, and the values that it reads from settings: it
    takes no parameters, because it is two statements in one message.
    """
    statement, *values = ending
    records = ((*owner, *row) for row in spanned(rows, "statistics"))  # made as they are sent
    await connection.execute(query("queue", "begin"))
    try:
        await connection.copy_records_to_table("probe_rows", records=records, columns=ROW_COLUMNS)
        await connection.execute(query("queue", f"name_{statement}"), *map(str, values))
        await connection.execute(query("queue", str(statement)))
    except asyncpg.PostgresError:
        await connection.execute(query("queue", "rollback"))
        raise
    except BaseException:  # no answer, or cancelled
        connection.terminate()
        raise
    return len(rows)
