"""The warehouse's files: the sample pings with the sizes of their tables, and the registrations of their probes."""

from __future__ import annotations

import datetime as dt
import json
import os
import uuid
from typing import TYPE_CHECKING

import duckdb
import structlog

from usage_service.shared.errors import UserError
from warehouse.queries import query
from warehouse.sample.filling import fill

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from usage_service.shared.progress import Report
    from warehouse.sample.pings import SampleOptions
    from warehouse.sample.probes import Probe

log = structlog.get_logger(__name__)

DATABASE, CATALOGUE = "warehouse.duckdb", "catalogue.ndjson"
GENERATION = 4
KNOWN_FOR = dt.timedelta(days=365)


class SeedError(UserError):
    """The files cannot be written; the message says why."""


def seed(data_dir: Path, options: SampleOptions, report: Report) -> bool:
    """Write the files into `data_dir`, in place of others; return False when those of the same options are there.

    `report` is told how many of `filling.steps` are done. After an interruption, the next call starts anew.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    target = data_dir / DATABASE
    before = _options_of(target)
    if before == _description(options):
        return False
    partial = data_dir / f"{DATABASE}.partial-{os.getpid()}"
    partial.unlink(missing_ok=True)
    try:
        _write_registrations(data_dir / CATALOGUE, options)  # first: whoever needs no pings need not wait for them
        with duckdb.connect(partial) as connection:
            fill(connection, options, _description(options), report)
        partial.replace(target)
    except (duckdb.IOException, duckdb.TransactionException) as error:  # no space, also for a commit
        raise SeedError(f"{data_dir} cannot be written: {error}") from None
    finally:
        partial.unlink(missing_ok=True)
        partial.with_name(f"{partial.name}.wal").unlink(missing_ok=True)
    log.info("warehouse_seeded", clients=options.clients, until=str(options.until), in_place_of=before)
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


def _write_registrations(path: Path, options: SampleOptions) -> None:
    """Write the registrations to a file, an event a line, which is there whole or not at all."""
    partial = path.with_suffix(f".partial-{os.getpid()}")
    partial.write_text("".join(json.dumps(event) + "\n" for event in _registrations(options)))
    partial.replace(path)


def _registrations(options: SampleOptions) -> Iterator[dict[str, object]]:
    """Yield a usage event for each product, probe and ping, so that the service knows what can be built."""
    moment = dt.datetime.combine(options.until - KNOWN_FOR, dt.time(), dt.UTC).isoformat().replace("+00:00", "Z")
    for probe in options.probes:
        for product in probe.products:
            for ping in probe.pings:
                yield _registration(probe, product, ping, moment)


def _registration(probe: Probe, product: str, ping: str, moment: str) -> dict[str, object]:
    data = {"type": probe.type, "ping": ping} | probe.definition() | _details(probe, product)
    content = json.dumps(data, sort_keys=True)  # what a later release tells otherwise is another event
    return {
        "event_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{product}/{probe.name}/{content}")),
        "type": "probe_registered",
        "occurred_at": moment,
        "product": product,
        "probe": probe.name,
        "data": data,
    }


def _details(probe: Probe, product: str) -> dict[str, object]:
    """Return what people read of a probe, as made up as its values."""
    team = probe.name.split("_")[0]
    return {
        "description": f"Sample values of {probe.name}, a {probe.type.replace('_', ' ')} of {product}.",
        "owners": [f"{team}@example.org"],
        "expires": "never",
    }
