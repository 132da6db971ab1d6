"""Filling projections from the mirror: their rows are computed in BigQuery and loaded beside the live ones."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from tempfile import TemporaryFile
from typing import BinaryIO
from uuid import UUID

import asyncpg
import structlog
from google.cloud.bigquery.table import TableListItem

from usage_service.log.mirrored import MirrorPlace
from usage_service.mirror.folds import TABLES, SessionRules, table_statement
from usage_service.queries import query
from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.errors import WorkError
from usage_service.shared.bigquery.jobs import JobOptions, JobRunner
from usage_service.shared.bigquery.reasons import as_work_errors
from usage_service.shared.bigquery.statement import Statement
from usage_service.shared.errors import UserError
from usage_service.shared.postgres import Connection
from usage_service.shared.threads import in_thread

EVENTS_A_TEXT = 2_000  # fewer rows than that: some 200 KB
TEXTS_A_PAGE = 20
OPTIONS = JobOptions(page_size=TEXTS_A_PAGE)
RESULT = "filling_"  # then the generation, the table, and what tells its statement from others

log = structlog.get_logger(__name__)


class FillingError(UserError):
    """Raised when a projection cannot be filled from the mirror; the message says why and what would help."""


@dataclass(frozen=True)
class MirrorFilling:
    """A mirror that projections are filled from, up to the position to which it was found to have every event."""

    place: MirrorPlace
    options: JobOptions = field(default=OPTIONS)

    @property
    def projections(self) -> list[str]:
        """Return the projections that BigQuery can compute."""
        return sorted(TABLES)

    async def upto(self, connection: Connection, projection: str) -> int:
        """Return the position up to which a projection can be filled; raise FillingError where it cannot."""
        if projection not in TABLES:
            known = " and ".join(self.projections)
            raise FillingError(f"{projection} cannot be computed in BigQuery, {known} can: leave out --in bigquery")
        name = self.place.mirror
        source = await connection.fetchrow(query("filling", "source"), name)
        if source is None:
            raise FillingError(f"there is no mirror {name} of this log; `usage-service mirror` begins one")
        if source["begins_after"]:
            raise FillingError(
                f"the mirror {name} begins after position {source['begins_after']}: it lacks what was dropped before"
            )
        upto = int(source["upto"])
        if not upto:
            raise FillingError(f"the mirror {name} has nothing that is verified yet; run `usage-service mirror verify`")
        return upto

    async def fill(self, connection: Connection, projection: str, stage: str, upto: int) -> None:
        """Fill what was begun, unless that has rows already, in one transaction. Raise FillingError.

        The jobs are named after its generation: who comes after a kill adopts them. Rows are fetched before the
        transaction begins: however slow that is, nobody waits for it.
        """
        state = await _begun(connection, projection, stage)
        if state is None:
            return
        left_out = await connection.fetch(query("filling", "left_out"), projection, upto)
        statements = await self._statements(connection, projection, state, upto, [row["position"] for row in left_out])
        with ExitStack() as files:
            tables = [(one, files.enter_context(TemporaryFile())) for one in statements]
            try:
                await self._compute(state["generation"], stage, tables)
            except WorkError as error:
                if await _begun(connection, projection, stage) is None:
                    return  # whoever filled it at the same time has dropped the results
                raise FillingError(f"{projection} cannot be computed in {self.place.mirror}: {error}") from None
            async with connection.transaction():
                if await connection.fetchval(query("filling", "hold"), projection, stage):
                    for one, file in tables:
                        await _load(connection, one.name, file)
                    await _reach(connection, projection, stage, upto, left_out)
                elif await _begun(connection, projection, stage) is not None:
                    raise FillingError(f"another process fills {projection} just now; run it again to go on")
        await self._drop_results(connection)

    async def _compute(self, generation: UUID, stage: str, tables: Sequence[tuple[Statement, BinaryIO]]) -> None:
        """Compute the rows of tables and fetch them into files, a text of them a line. Raise a WorkError."""
        control = Control()
        client, labels = self.place.client(), {"purpose": stage}
        runner = JobRunner(client, generation, labels, self.options, control, kind="projection")
        try:
            for statement, file in tables:
                await in_thread(partial(self._fetch, runner, statement, file), statement.name)
        finally:
            control.abandon()

    def _fetch(self, runner: JobRunner, statement: Statement, file: BinaryIO) -> None:
        """Have a statement computed, and fetch its rows. Blocks.

        They are in a table in BigQuery that has the statement's digest in its name: what a killed filling computes as
        of another position, and may end later, is not taken for them.
        """
        result = f"{self.place.mirror}.{RESULT}{runner.work_id.hex}_{statement.name}_{statement.digest()}"
        job = runner.run_job(statement, destination=result)
        try:
            with gzip.open(file, "wb", compresslevel=1) as packed:
                for page in runner.fetch(job, statement.name):
                    packed.writelines(text.encode() + b"\n" for text in page["packed"])
            file.seek(0)
        except OSError as error:
            raise FillingError(
                f"rows cannot be written to a temporary file: {error}; make room, or name another place by TMPDIR"
            ) from None

    async def _drop_results(self, connection: Connection) -> None:
        """Drop the results of fillings that are over, those of who was killed before it could, too."""
        try:
            results = await in_thread(self._results, "find results")
            # Asked after that: a filling is begun before it has results.
            begun = {row["generation"].hex for row in await connection.fetch(query("filling", "generations"))}
            over = [one for one in results if one.table_id.removeprefix(RESULT).partition("_")[0] not in begun]
            await in_thread(partial(self._drop, over), "drop results")
        except WorkError as error:
            log.warning("results_not_dropped", mirror=self.place.mirror, code=error.code, message=str(error))

    def _results(self) -> list[TableListItem]:
        with as_work_errors():
            tables = list(self.place.client().list_tables(self.place.mirror, timeout=self.options.request_seconds))
        return [one for one in tables if one.table_id.startswith(RESULT)]

    def _drop(self, tables: Sequence[TableListItem]) -> None:
        client, seconds = self.place.client(), self.options.request_seconds
        with as_work_errors():
            for one in tables:
                client.delete_table(one.reference, not_found_ok=True, timeout=seconds)

    async def _statements(
        self, connection: Connection, projection: str, state: asyncpg.Record, upto: int, left_out: Sequence[int]
    ) -> list[Statement]:
        rules = await session_rules(connection)
        if projection == "sessions":
            rules = SessionRules.of(state["settings"], rules.tools)
        source = await connection.fetchrow(query("filling", "source"), self.place.mirror)
        texts = max(1, (source["events"] if source else 0) // EVENTS_A_TEXT)
        return [table_statement(self.place, table, rules, upto, left_out, texts) for table in TABLES[projection]]


async def _begun(connection: Connection, projection: str, stage: str) -> asyncpg.Record | None:
    """Return what was begun and has no rows yet, None where there is nothing to fill."""
    return await connection.fetchrow(query("filling", "begun"), projection, stage)


async def session_rules(connection: Connection) -> SessionRules:
    """Return what makes a session, as the live projection has it."""
    tools = {row["host"]: row["tool"] for row in await connection.fetch(query("filling", "tools"))}
    return SessionRules.of(await connection.fetchval(query("filling", "rules")), tools)


async def _load(connection: Connection, table: str, file: BinaryIO) -> None:
    with gzip.open(file) as packed:
        for line in packed:
            await connection.execute(query("filling", table), line.decode())


async def _reach(
    connection: Connection, projection: str, stage: str, upto: int, left_out: Sequence[asyncpg.Record]
) -> None:
    letters = zip(*(row.values() for row in left_out), strict=True) if left_out else [(), (), (), ()]
    await connection.execute(query("filling", "leave_out"), projection, stage, *map(list, letters))
    await connection.execute(query("filling", "reach"), projection, stage, upto)
    if stage == "rebuild":
        await connection.execute(query("filling", "take_up"), projection)
