"""Writes the warehouse's files: sample pings, what they weigh by column and day, and the probes' registrations."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import duckdb
import structlog

from warehouse.queries import query
from warehouse.sample.filling import fill
from warehouse.sample.registration import write_registrations

if TYPE_CHECKING:
    from pathlib import Path

    from usage_service.shared.progress import Report
    from warehouse.sample.pings import SampleOptions

log = structlog.get_logger(__name__)

DATABASE, CATALOGUE = "warehouse.duckdb", "catalogue.ndjson"
GENERATION = 2


def seed(data_dir: Path, options: SampleOptions, report: Report) -> bool:
    """Write the files into `data_dir`; False if they are there already, made with the same options.

    `report` is told how many of `filling.steps` are done. Interrupted, the next call starts anew.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    target = data_dir / DATABASE
    if _options_of(target) == _description(options):
        return False
    partial = data_dir / f"{DATABASE}.partial-{os.getpid()}"
    partial.unlink(missing_ok=True)
    try:
        with duckdb.connect(partial) as connection:
            fill(connection, options, _description(options), report)
        write_registrations(data_dir / CATALOGUE, options)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
        partial.with_name(f"{partial.name}.wal").unlink(missing_ok=True)
    log.info("warehouse_seeded", clients=options.clients, until=str(options.until))
    return True


def _description(options: SampleOptions) -> str:
    return f"generation {GENERATION}: {options.describe()}"


def _options_of(path: Path) -> str | None:
    if not path.is_file():
        return None
    try:
        with duckdb.connect(path, read_only=True) as connection:
            row = connection.execute(query("sample", "description")).fetchone()
    except duckdb.Error:
        return None
    return str(row[0]) if row else None
