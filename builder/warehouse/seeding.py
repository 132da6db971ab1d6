"""Writes the warehouse's file: sample pings, what they weigh by column and day, and the probes' catalogue."""

from __future__ import annotations

import datetime as dt
import json
import os
import uuid
from importlib.resources import files
from typing import TYPE_CHECKING

import duckdb
import structlog

from builder.warehouse import sample
from builder.warehouse.probes import PROBES
from builder.warehouse.schema import Type, from_duckdb

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from builder.warehouse.sample import SampleOptions

log = structlog.get_logger(__name__)

DATABASE, CATALOGUE = "warehouse.duckdb", "catalogue.ndjson"
GENERATION = 1
BUILDS_A_STEP = 5
PRODUCT = "fog"


def seed(data_dir: Path, options: SampleOptions, progress: Callable[[int, int], None]) -> bool:
    """Write the files into `data_dir`; False if they are there already, made with the same options.

    `progress` is told how many of how many steps are done. Interrupted, the next call starts anew.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    target = data_dir / DATABASE
    if _options_of(target) == _description(options):
        return False
    partial = data_dir / f"{DATABASE}.partial-{os.getpid()}"
    partial.unlink(missing_ok=True)
    try:
        with duckdb.connect(partial) as connection:
            _fill(connection, options, progress)
        _write_catalogue(data_dir / CATALOGUE, options)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
        partial.with_name(f"{partial.name}.wal").unlink(missing_ok=True)
    log.info("warehouse_seeded", clients=options.clients, until=str(options.until))
    return True


def _description(options: SampleOptions) -> str:
    return f"generation {GENERATION}: {options.clients} clients, seed {options.seed}, until {options.until}"


def _options_of(path: Path) -> str | None:
    if not path.is_file():
        return None
    try:
        with duckdb.connect(path, read_only=True) as connection:
            row = connection.execute("SELECT description FROM about.seeded").fetchone()
    except duckdb.Error:
        return None
    return str(row[0]) if row else None


def _fill(connection: duckdb.DuckDBPyConnection, options: SampleOptions, progress: Callable[[int, int], None]) -> None:
    steps = sample.BUILDS + 1
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET threads = 1")
    connection.execute(_sql("store.sql"))
    connection.execute(_sql("clients.sql"), list(sample.clients(options)))
    connection.execute(_sql("builds.sql"))
    connection.executemany("INSERT INTO builds VALUES (?, ?, ?, ?, ?, ?, ?)", sample.builds(options))
    for name, keys in sample.bounds().items():
        connection.execute(f"SET VARIABLE {name} = $1", [keys])
    names = {"{schema}": f"{sample.PROJECT}.{sample.DATASET}", "{table}": sample.TABLE}
    connection.execute(_filled("pings_table.sql", {**names, "{metrics_type}": sample.metrics_type()}))
    pings = _filled("pings.sql", {**names, "{metrics}": sample.metrics_value()})
    for first in range(0, sample.BUILDS, BUILDS_A_STEP):
        last = first + BUILDS_A_STEP - 1
        connection.execute(pings, {"first": first, "last": last, "seed": options.seed})
        progress(last + 1, steps)
    _weigh(connection)
    connection.execute("DROP TABLE clients")
    connection.execute("DROP TABLE builds")
    connection.execute("INSERT INTO about.seeded VALUES (?)", [_description(options)])
    connection.execute("CHECKPOINT")
    progress(steps, steps)


def _sql(name: str) -> str:
    return files(__package__).joinpath("sql", name).read_text()


def _filled(name: str, parts: dict[str, str]) -> str:
    text = _sql(name)
    for place, part in parts.items():
        text = text.replace(place, part)
    return text


def _weigh(connection: duckdb.DuckDBPyConnection) -> None:
    """Store the logical bytes of every leaf column and day, by BigQuery's rules for the size of a value."""
    schema = f"{sample.PROJECT}.{sample.DATASET}"
    relation = connection.table(f'"{schema}"."{sample.TABLE}"')
    row = Type("STRUCT", fields=dict(zip(relation.columns, map(from_duckdb, relation.types), strict=True)))
    leaves = list(row.leaves())
    for name, kind in row.fields.items():
        sizes = [(path, _size(f'"{name}"', kind, path[1:])) for path, _ in leaves if path[0] == name]
        sums = ", ".join(f"coalesce(sum({size}), 0)" for _, size in sizes)
        paths = ", ".join(str(list(path)) for path, _ in sizes)
        weigh = {"{paths}": f"[{paths}]", "{sums}": f"[{sums}]", "{schema}": schema, "{table}": sample.TABLE}
        connection.execute(_filled("leaf_bytes.sql", weigh), [sample.PROJECT, sample.DATASET, sample.TABLE])
    connection.execute(
        "INSERT INTO about.tables VALUES (?, ?, ?, 'submission_timestamp')",
        [sample.PROJECT, sample.DATASET, sample.TABLE],
    )


def _size(value: str, kind: Type, path: tuple[str, ...]) -> str:
    if kind.repeated:
        element = _size("item", Type(kind.name, fields=kind.fields), path)
        return f"list_sum(list_transform({value}, lambda item: {element}))"
    if path:
        child = kind.child(path[0])
        return _size(f"struct_extract({value}, '{path[0]}')", child, path[1:]) if child else "0"
    if kind.name == "STRING":
        return f"(2 + strlen({value}))"
    return f"CASE WHEN {value} IS NOT NULL THEN {1 if kind.name == 'BOOL' else 8} END"


def _write_catalogue(path: Path, options: SampleOptions) -> None:
    registered = dt.datetime.combine(options.until - dt.timedelta(days=365), dt.time(), dt.UTC)
    lines = [
        {
            "event_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PRODUCT}/{probe.name}")),
            "type": "probe_registered",
            "occurred_at": registered.isoformat().replace("+00:00", "Z"),
            "product": PRODUCT,
            "probe": probe.name,
            "data": {"type": probe.type, "ping": "metrics"},
        }
        for probe in PROBES
    ]
    partial = path.with_suffix(f".partial-{os.getpid()}")
    partial.write_text("".join(json.dumps(line) + "\n" for line in lines))
    partial.replace(path)
