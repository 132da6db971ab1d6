"""What jobs do: a query, a statement of DML, the load of a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

import duckdb

from warehouse.api.jobs import Job, Work
from warehouse.catalogue import WRITTEN, relation_name
from warehouse.definitions import Definition, Resource, fields_of, invalid
from warehouse.engine import as_bigquery, bound
from warehouse.errors import BigQueryError, invalid_query
from warehouse.loading.ndjson import read_ndjson
from warehouse.loading.parquet import read_parquet
from warehouse.loading.rows import unreadable
from warehouse.queries import query, render
from warehouse.schema import Type, field_resource
from warehouse.writing import Destination, Disposition

if TYPE_CHECKING:
    from warehouse.api.requests import LoadRequest, QueryRequest
    from warehouse.engine import Engine, Plan
    from warehouse.loading.rows import Rows
    from warehouse.writing import Change

LOADED = "bq_loaded"


def query_job(engine: Engine, project: str, request: QueryRequest) -> Job:
    """Return the job of a query, planned; raise BigQueryError for one that is wrong."""
    plan = engine.plan(request.text, project, request.parameters)
    if plan.translation.changes and request.destination:
        raise invalid_query("Cannot set destination table in jobs with DML statements")
    work: Work = Modification(engine, project, request) if plan.translation.changes else Selection(plan, request)
    job = Job(project, request.job_id, request.configuration, work, plan.translation.columns)
    job.statistics = _query_statistics(plan)
    return job


def _query_statistics(plan: Plan) -> Resource:
    processed = str(plan.bytes_processed)
    fields = [field_resource(name, kind) for name, kind in plan.translation.columns]
    return {
        "totalBytesProcessed": processed,
        "query": {
            "statementType": plan.translation.kind,
            "cacheHit": False,
            "totalBytesProcessed": processed,
            "totalBytesBilled": str(plan.bytes_billed),
            "schema": {"fields": fields},
        },
    }


def _check_bytes(plan: Plan, limit: int | None) -> None:
    if limit is not None and plan.bytes_billed > limit:
        raise BigQueryError(
            "bytesBilledLimitExceeded",
            f"Query exceeded limit for bytes billed: {limit}. {plan.bytes_billed} or higher required.",
        )


@dataclass
class Selection:
    """A SELECT, whose rows are kept for a while, and stored in a destination table when it names one."""

    plan: Plan
    request: QueryRequest
    reads: bool = field(default=True, init=False)

    @property
    def writes(self) -> bool:
        """Return whether there is a destination table."""
        return self.request.destination is not None

    def check(self, _job: Job) -> None:
        """Refuse to read more bytes than the request allows."""
        _check_bytes(self.plan, self.request.byte_limit)

    def read(self, job: Job, cursor: duckdb.DuckDBPyConnection) -> None:
        """Run the query."""
        sql = self.plan.translation.sql
        cursor.execute(render("create_result", result=job.result, query=sql), bound(self.plan.parameters, sql))
        job.rows = int((cursor.execute(query("jobs", "count_rows"), {"result": job.result}).fetchone() or (0,))[0])

    def write(self, job: Job, change: Change) -> None:
        """Store the rows in the destination table."""
        if to := self.request.destination:
            change.store(to, job.result, Definition(fields_of(Type("STRUCT", fields=dict(job.columns)))))
            job.stays = "" if to.disposition is Disposition.APPEND else relation_name(WRITTEN, to.name)

    def close(self) -> None:
        """Do nothing."""


@dataclass
class Modification:
    """A statement of DML. It is planned again when its turn comes, for the tables as they are then."""

    engine: Engine
    project: str
    request: QueryRequest
    reads: bool = field(default=False, init=False)
    writes: bool = field(default=True, init=False)

    def check(self, _job: Job) -> None:
        """Do nothing: the bytes are those of the tables when its turn comes."""

    def read(self, _job: Job, _cursor: duckdb.DuckDBPyConnection) -> None:
        """Do nothing."""

    def write(self, job: Job, change: Change) -> None:
        """Change the table."""
        plan = self.engine.plan(self.request.text, self.project, self.request.parameters)
        job.statistics = _query_statistics(plan)
        _check_bytes(plan, self.request.byte_limit)
        sql, table = plan.translation.sql, plan.translation.changes
        if table is None:
            raise BigQueryError("internalError", "The statement is none of DML any more")
        counts = change.apply(table, sql, bound(plan.parameters, sql))
        job.affected = counts.affected
        job.statistics["query"] |= {
            "numDmlAffectedRows": str(counts.affected),
            "dmlStats": {
                "insertedRowCount": str(counts.inserted),
                "updatedRowCount": str(counts.updated),
                "deletedRowCount": str(counts.deleted),
            },
        }

    def close(self) -> None:
        """Do nothing."""


def load_job(project: str, request: LoadRequest, file: IO[bytes], size: int) -> Job:
    """Return the job that loads a file, which it closes."""
    return Job(project, request.job_id, request.configuration, Load(request, file, size))


def _of_data(error: BigQueryError) -> BigQueryError:
    """Return the error as one of the file where it would be one of the query."""
    return unreadable(error.message) if error.reason == "invalidQuery" else error


@dataclass
class Load:
    """The load of a file, all of it or nothing."""

    request: LoadRequest
    file: IO[bytes]
    size: int
    reads: bool = field(default=False, init=False)
    writes: bool = field(default=True, init=False)

    def check(self, _job: Job) -> None:
        """Do nothing: loads are free."""

    def read(self, _job: Job, _cursor: duckdb.DuckDBPyConnection) -> None:
        """Do nothing."""

    def write(self, job: Job, change: Change) -> None:
        """Add the file's rows to the table."""
        to = self.request.destination
        rows = self._rows(change, to)
        change.cursor.register(LOADED, rows.reader())
        try:
            added = change.store(to, LOADED, Definition(rows.fields))
        except duckdb.Error as error:
            raise rows.failure or _of_data(as_bigquery(error)) from error
        job.statistics = {
            "load": {
                "inputFiles": "1",
                "inputFileBytes": str(self.size),
                "outputRows": str(added),
                "outputBytes": str(rows.bytes),
                "badRecords": "0",
            }
        }

    def _rows(self, change: Change, to: Destination) -> Rows:
        if self.request.parquet:
            return read_parquet(self.file, to.fields, lists=self.request.lists)
        table = change.table(to.name)
        fields = to.fields or (table.definition.fields if table else [])
        if not fields:
            raise invalid("No schema specified on job or table; the embedded warehouse does not detect it in JSON")
        return read_ndjson(self.file, fields, ignore_unknown=self.request.ignore_unknown)

    def close(self) -> None:
        """Close the file."""
        self.file.close()
