"""Checks of the database: reachable, writable, its schema and clock, and how far those are that work on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import asyncpg

from usage_service.builds.listing import builder_state
from usage_service.doctor.findings import Finding, clock_finding, now
from usage_service.mirror.state import mirror_states
from usage_service.projections.state import Status, projection_statuses
from usage_service.queries import query
from usage_service.shared.connecting import AddressError
from usage_service.shared.local_services import running_url, was_started
from usage_service.shared.postgres import UNAVAILABLE, Connection, connect
from usage_service.shared.postgres import query as shared_query
from usage_service.shared.schema import SCHEMA_VERSION

STATEMENT_SECONDS = 10.0
MOST_BEHIND_SECONDS = 60.0
OLDEST_POSTGRES = 15
ELSEWHERE = "give --database-url, or --data-dir of `usage-service up`"


class Situation(NamedTuple):
    """Situation of a database, as it tells it itself."""

    version: int
    is_standby: bool
    is_read_only: bool
    clock: datetime


async def database_findings(given: str | None, data_dir: Path) -> AsyncIterator[Finding]:
    """Check the database `given`, else that of `data_dir`; what is written to see whether it can be is taken back."""
    url = given or running_url(data_dir)
    if url is None:
        yield _unnamed(data_dir)
        return
    try:
        connection = await connect(url, application="usage-service doctor", statement_seconds=STATEMENT_SECONDS)
    except AddressError as error:
        yield Finding("database", "wrong", str(error), "mend the address, or give another with --database-url")
        return
    except (*UNAVAILABLE, asyncpg.PostgresError) as error:
        said = str(error) or type(error).__name__
        yield Finding("database", "wrong", f"does not answer ({said})", "start PostgreSQL, or give --database-url")
        return
    try:
        async for finding in _findings(connection):
            yield finding
    except (*UNAVAILABLE, asyncpg.PostgresError) as error:
        yield Finding("database", "wrong", f"ended the check: {error}", "see PostgreSQL's log, and run this again")
    finally:
        await connection.close(timeout=5)


def _unnamed(data_dir: Path) -> Finding:
    if was_started(data_dir):
        mend = f"start it: `usage-service up --data-dir {data_dir}`"
        return Finding("database", "wrong", f"that of {data_dir} does not run", mend)
    return Finding("database", "unchecked", "nothing names one", ELSEWHERE)


async def _findings(connection: Connection) -> AsyncIterator[Finding]:
    before = now()
    situation = Situation(*await connection.fetchrow(query("doctor", "situation")) or ())
    after = now()
    yield _reached(situation)
    yield clock_finding("clock of the database", situation.clock, before, after)
    schema = await _schema_finding(connection)
    yield schema
    if schema.state == "wrong":
        yield Finding("what works on it", "unchecked", "needs the schema of this program", schema.mend)
        return
    yield await _writable_finding(connection, situation)
    for finding in _projection_findings(await projection_statuses(connection)):
        yield finding
    yield await _builders_finding(connection)
    for state in await mirror_states(connection):
        mend = "" if state.is_well else "start `usage-service mirror`, and see its log; docs/guides/mirror.md"
        yield Finding(f"mirror {state.mirror}", "wrong" if mend else "ok", str(state), mend)


def _reached(situation: Situation) -> Finding:
    major = situation.version // 10_000
    if major < OLDEST_POSTGRES:
        return Finding("database", "wrong", f"is PostgreSQL {major}", f"upgrade it to {OLDEST_POSTGRES} or later")
    return Finding("database", "ok", f"answers, PostgreSQL {major}")


async def _schema_finding(connection: Connection) -> Finding:
    if not await connection.fetchval(shared_query("installation", "is_installed")):
        return Finding("schema", "wrong", "is not installed", "run `usage-service migrate` with the owner's login")
    [row] = await connection.fetch(shared_query("installation", "installed"))
    version, works_with = row
    seen = f"{version}; this program's is {SCHEMA_VERSION}"
    if version < SCHEMA_VERSION:
        return Finding("schema", "wrong", seen, "run `usage-service migrate` with the owner's login")
    if works_with > SCHEMA_VERSION:
        return Finding("schema", "wrong", f"{seen}, which does not work with it", "update this program")
    if version > SCHEMA_VERSION:
        return Finding("schema", "note", f"{seen}, which works with it", "update this program")
    return Finding("schema", "ok", seen)


async def _writable_finding(connection: Connection, situation: Situation) -> Finding:
    if situation.is_standby:
        return Finding("writing", "wrong", "the database is a standby", "name the primary, or promote this one")
    if situation.is_read_only:
        mend = "mend what set it, then ALTER DATABASE ... SET default_transaction_read_only = off"
        return Finding("writing", "wrong", "the database is read-only", mend)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(query("health", "probe_recording"))
    except asyncpg.InsufficientPrivilegeError:
        return Finding("writing", "unchecked", "this login may not", "give the login of the owner or of a server")
    except (*UNAVAILABLE, asyncpg.PostgresError) as error:
        return Finding("writing", "wrong", f"is refused: {error}", "see PostgreSQL's log: a disk may be full")
    finally:
        await transaction.rollback()
    return Finding("writing", "ok", "events can be recorded")


def _projection_findings(statuses: list[Status]) -> Iterator[Finding]:
    """Find what is wrong with each projection, or that all are current."""
    found = [finding for status in statuses for finding in _complaints(status)]
    yield from found or [Finding("projections", "ok", f"all {len(statuses)} are current")]


def _complaints(status: Status) -> Iterator[Finding]:
    part = f"projection {status.name}" + ("" if status.stage == "live" else f" ({status.stage})")
    if status.error is not None:
        mend = "mend the cause; what cannot be folded is set aside by itself. docs/guides/operating.md"
        yield Finding(part, "wrong", f"stands after position {status.failed_after}: {status.error}", mend)
    elif status.stage == "live" and status.behind_seconds > MOST_BEHIND_SECONDS:
        seen = f"{status.behind:,} positions behind, for {status.behind_seconds:,.0f} s"
        yield Finding(part, "wrong", seen, "start a server: servers fold; else see its log")
    if status.set_aside:
        mend = f"`usage-service projections` shows why; then `projections retry {status.name}`, or discard"
        yield Finding(part, "note", f"goes on without {status.set_aside:,} events", mend)


async def _builders_finding(connection: Connection) -> Finding:
    state = await builder_state(connection)
    if state.alive:
        return Finding("builders", "ok", f"{state.alive} alive")
    ago = "for a day" if state.last_seen_seconds is None else f"for {state.last_seen_seconds:,.0f} s"
    return Finding("builders", "wrong", f"none was seen {ago}", "start one: `probe-builder run`")
