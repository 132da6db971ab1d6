"""A load: events of the log as a Parquet file, and the job that takes it to the mirror, once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple
from uuid import UUID, uuid5

import adbc_driver_manager
import pyarrow as pa
import pyarrow.parquet as pq
from google.cloud import bigquery

from usage_service.log.arrow import read_batches
from usage_service.log.errors import LogReadError
from usage_service.log.mirrored import Load, MirrorPlace
from usage_service.log.reading import LogFilter
from usage_service.mirror.columns import TABLE_SCHEMA, mirrored_rows
from usage_service.mirror.digests import LoadDigest
from usage_service.mirror.tables import FIELDS
from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.errors import PermanentWorkError
from usage_service.shared.bigquery.jobs import JobOptions, JobRunner


class Loaded(NamedTuple):
    """A load that has ended well: the digest of its events, and the bytes of its file."""

    digest: str
    bytes: int


@dataclass(frozen=True)
class Loader:
    """A loader of one mirror."""

    client: bigquery.Client
    place: MirrorPlace
    database_url: str = field(repr=False)
    options: JobOptions

    def load(self, load: Load, series: UUID, control: Control) -> Loaded:
        """Take a load to the mirror, unless that was done. Raise a WorkError or LogReadError. Blocks.

        The id of its job is derived from `series` and from its positions.
        """
        with tempfile.TemporaryFile() as file:
            digest = self._write(load, file, control)
            size = os.fstat(file.fileno()).st_size
            work_id = uuid5(series, f"{load.after}-{load.upto}")
            runner = JobRunner(self.client, work_id, {"purpose": "mirror"}, self.options, control, kind="mirror")
            job = runner.load(lambda: file, self.place.table, self._config())
        if job.output_rows != load.events:
            raise PermanentWorkError(
                "eventsMissing", f"job {job.job_id} has loaded {job.output_rows} of {load.events} events"
            )
        return Loaded(digest, size)

    def _write(self, load: Load, file: BinaryIO, control: Control) -> str:
        """Write the Parquet file of a load; return the digest of its events."""
        digest = LoadDigest()
        try:
            with pq.ParquetWriter(file, TABLE_SCHEMA, compression="zstd") as writer:
                for rows in self._rows(load):
                    control.check()
                    digest.add(rows)
                    writer.write_batch(rows)
        except (adbc_driver_manager.Error, OSError) as error:
            raise LogReadError(f"events cannot be read, or written to a temporary file: {error}") from None
        if digest.events != load.events:
            raise PermanentWorkError(
                "logDiffers",
                f"the log has {digest.events} events after {load.after} up to {load.upto}, not {load.events}",
            )
        return digest.finish()

    def _rows(self, load: Load) -> Iterator[pa.RecordBatch]:
        for batch in read_batches(self.database_url, "usage_server", load.after, load.upto, LogFilter()):
            if batch.num_rows:
                yield mirrored_rows(batch, load.after)

    def _config(self) -> bigquery.LoadJobConfig:
        return bigquery.LoadJobConfig(
            schema=FIELDS,
            source_format=bigquery.SourceFormat.PARQUET,
            create_disposition=bigquery.CreateDisposition.CREATE_NEVER,
            write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
        )
