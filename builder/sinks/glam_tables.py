"""GLAM's own tables in BigQuery: the rows of a batch are staged by a load job and merged by one statement.

Both jobs have ids that are derived from the batch, so another attempt adopts them, and neither is done twice.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias

import pyarrow
from google.api_core.exceptions import Conflict
from google.cloud import bigquery
from google.cloud.bigquery import ScalarQueryParameter, SchemaField

from builder.sinks.outbox import Batch
from builder.sinks.parquet_rows import ParquetRows
from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.errors import PermanentWorkError
from usage_service.shared.bigquery.jobs import JobOptions, JobRunner
from usage_service.shared.bigquery.reasons import as_work_errors
from usage_service.shared.bigquery.statement import Statement, table_name
from usage_service.shared.queries import SqlFolder
from usage_service.shared.tracing import span_ids

PRODUCTS = ("fog", "fenix")
CHANNELS = ("nightly", "beta", "release")


class Kind(NamedTuple):
    """A type of a column, in Parquet and in BigQuery."""

    parquet: pyarrow.DataType
    bigquery: str


TEXT, NUMBER = Kind(pyarrow.string(), "STRING"), Kind(pyarrow.int64(), "INTEGER")
COLUMNS = {
    "app_id": TEXT,
    "channel": TEXT,
    "version": NUMBER,
    "ping_type": TEXT,
    "os": TEXT,
    "build_id": TEXT,
    "build_date": TEXT,
    "metric": TEXT,
    "metric_type": TEXT,
    "metric_key": TEXT,
    "client_agg_type": TEXT,
    "total_users": NUMBER,
    "histogram": TEXT,
    "percentiles": TEXT,
    "non_norm_histogram": TEXT,
    "non_norm_percentiles": TEXT,
    "total_sample": NUMBER,
    "batch": TEXT,
}
STAGED = [SchemaField(name, kind.bigquery) for name, kind in COLUMNS.items()]
COUNTS = ("total_users", "total_sample")
AGGREGATES = [
    SchemaField(name, "BIGNUMERIC" if name in COUNTS else kind.bigquery)
    for name, kind in COLUMNS.items()
    if name != "batch"
]
render = SqlFolder(Path(__file__).parent / "sql").template

WriteRows: TypeAlias = Callable[[ParquetRows], None]
"""Writes the rows of a batch into a file; blocks."""


class Delivered(NamedTuple):
    """A batch that was delivered: the rows staged, and the bytes that merging them read."""

    rows: int
    bytes: int


class GlamTables:
    """The tables of one dataset, `project.dataset`. `deliver` blocks: it is run in a thread."""

    def __init__(self, client: bigquery.Client, dataset: str, options: JobOptions) -> None:
        self._client = client
        self._project, self._dataset = dataset.split(".")
        self._options = options

    def deliver(self, batch: Batch, write_rows: WriteRows, control: Control) -> Delivered:
        """Stage and merge the rows of a batch, unless an earlier attempt did. Raise a WorkError when it fails."""
        labels = {"product": batch.product, "channel": batch.channel} | span_ids()
        runner = JobRunner(self._client, batch.batch_id, labels, self._options, control, kind="deliver")
        staged = self._stage(runner, batch, write_rows)
        merged = runner.run_job(self.merge_statement(batch))
        number = merged.num_dml_affected_rows or 0
        if number < staged:
            raise PermanentWorkError(
                "rowsMissing",
                f"{number} of {staged} rows were merged: somebody changed {self.staged(*batch.of_channel)}",
            )
        return Delivered(staged, merged.total_bytes_processed or 0)

    def merge_statement(self, batch: Batch) -> Statement:
        """Return the statement that merges what was staged of a batch."""
        names = {
            "aggregates": self.aggregates(*batch.of_channel),
            "staged": self.staged(*batch.of_channel),
        }
        return Statement(
            "merge",
            render("merge_aggregates", **names),
            (ScalarQueryParameter("batch", "STRING", str(batch.batch_id)),),
        )

    def _stage(self, runner: JobRunner, batch: Batch, write_rows: WriteRows) -> int:
        config = bigquery.LoadJobConfig(
            schema=STAGED,
            source_format=bigquery.SourceFormat.PARQUET,
            create_disposition=bigquery.CreateDisposition.CREATE_IF_NEEDED,
            write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
        )
        columns = {name: kind.parquet for name, kind in COLUMNS.items()}
        with tempfile.TemporaryFile() as temporary, ParquetRows(temporary, columns, _constants(batch)) as rows:

            def file() -> BinaryIO:
                if not rows.is_finished:
                    write_rows(rows)
                return rows.finish()

            return runner.load(file, self.staged(*batch.of_channel), config).output_rows or 0

    def create_missing(self) -> list[str]:
        """Create those of GLAM's tables that are missing, and the dataset; return their names. Raise a WorkError."""
        created = []
        with as_work_errors():
            self._client.create_dataset(f"{self._project}.{self._dataset}", exists_ok=True)
            for product, channel in itertools.product(PRODUCTS, CHANNELS):
                name = self.aggregates(product, channel)
                with suppress(Conflict):
                    self._client.create_table(bigquery.Table(name, AGGREGATES))
                    created.append(name)
        return created

    def aggregates(self, product: str, channel: str) -> str:
        """Return the name of the table that GLAM reads."""
        return table_name(self._project, self._dataset, f"glam_{product}_{channel}_aggregates_v1")

    def staged(self, product: str, channel: str) -> str:
        """Return the name of the table that rows are staged in: of a channel's batches one at a time is under way."""
        return table_name(self._project, self._dataset, f"glam_usage_{product}_{channel}_staged")


def _constants(batch: Batch) -> dict[str, str | None]:
    """Return the columns that all rows of a batch share. GLAM's Fog tables have neither app nor channel."""
    is_fenix = batch.product == "fenix"
    return {
        "app_id": batch.channel if is_fenix else None,
        "channel": "*" if is_fenix else None,
        "batch": str(batch.batch_id),
    }
