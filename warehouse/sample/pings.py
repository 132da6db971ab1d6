"""Sample pings: DuckDB expressions that make them up from hashes, so that equal seeds make equal pings.

Values are drawn once into a table of `draws`, some hundreds for each situation a ping can be in; a ping then takes one
for each metric type. That is ten times as fast as drawing for each ping.
"""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from warehouse.sample.populations import TABLES, SampleTable
from warehouse.sample.probes import PROBES, Probe

PROJECT = "moz-fx-data-shared-prod"
PAIRS = "STRUCT(key VARCHAR, value BIGINT)[]"
DISTRIBUTION = f'STRUCT("sum" BIGINT, "values" {PAIRS})'
TYPES = {
    "counter": "BIGINT",
    "quantity": "BIGINT",
    "boolean": "BOOLEAN",
    "timespan": "STRUCT(value BIGINT, time_unit VARCHAR)",
    "labeled_counter": PAIRS,
    "labeled_boolean": "STRUCT(key VARCHAR, value BOOLEAN)[]",
    "dual_labeled_counter": f"STRUCT(key VARCHAR, value {PAIRS})[]",
} | {
    f"{labeled}{kind}_distribution": f"STRUCT(key VARCHAR, value {DISTRIBUTION})[]" if labeled else DISTRIBUTION
    for labeled in ("", "labeled_")
    for kind in ("timing", "memory", "custom")
}
STEADY = {"boolean", "labeled_boolean", "quantity"}
MOST_DRAWS, CLIENTS_A_DRAW = 400, 20


@dataclass(frozen=True)
class SampleOptions:
    """The options of the sample: clients, seed, the day of the newest build, probes and tables."""

    clients: int = 6_000
    seed: int = 1
    until: dt.date = dt.date(2026, 1, 1)
    probes: tuple[Probe, ...] = PROBES
    tables: tuple[SampleTable, ...] = TABLES

    @property
    def draws(self) -> int:
        """Return the number of values that are drawn for each situation."""
        return min(MOST_DRAWS, 10 + self.clients // CLIENTS_A_DRAW)

    def carried_by(self, table: SampleTable) -> list[Probe]:
        """Return the probes of a table's pings."""
        product = table.population.product
        return [probe for probe in self.probes if product in probe.products and table.ping in probe.pings]

    @property
    def filled_tables(self) -> list[SampleTable]:
        """Return the tables whose pings carry a probe; no others are made."""
        return [table for table in self.tables if self.carried_by(table)]

    def describe(self) -> str:
        """Return a text that differs when the pings would."""
        content = zlib.crc32(repr((self.probes, self.tables)).encode())
        return f"{self.clients} clients, seed {self.seed}, until {self.until}, content {content:x}"


def by_type(probes: Sequence[Probe]) -> list[tuple[str, list[Probe]]]:
    """Return the probes by metric type."""
    ordered = sorted(probes, key=lambda probe: probe.type)
    return [(kind, list(group)) for kind, group in groupby(ordered, key=lambda probe: probe.type)]


def metrics_type(probes: Sequence[Probe]) -> str:
    """Return the DuckDB type of the `metrics` column."""
    kinds = []
    for kind, members in by_type(probes):
        columns = ", ".join(f"{probe.name} {TYPES[kind]}" for probe in members)
        kinds.append(f'"{kind}" STRUCT({columns})')
    return f"STRUCT({', '.join(kinds)})"


def draws(probes: Sequence[Probe]) -> str:
    """Return the columns of `draws` in SQL, one for each metric type."""
    columns = []
    for kind, members in by_type(probes):
        values = ", ".join(f"'{probe.name}': {_value(probe)}" for probe in members)
        columns.append(f"{{{values}}} AS {kind}")
    return ", ".join(columns)


def taken(probes: Sequence[Probe]) -> str:
    """Return the `metrics` of a ping in SQL, from its draw of each metric type."""
    kinds = [f"'{kind}': {kind}_draws.{kind}" for kind, _ in by_type(probes)]
    return f"{{{', '.join(kinds)}}}"


def drawn_from(probes: Sequence[Probe]) -> str:
    """Return the joins that find a ping's draw of each metric type."""
    joins = [f"JOIN draws AS {kind}_draws ON {kind}_draws.place = {place(kind)}" for kind, _ in by_type(probes)]
    return "\n".join(joins)


def place(kind: str) -> str:
    """Return the place of a ping's draw in SQL; steady types depend on the client, but for one ping in ten."""
    source = "if(ping % 10 > 0, hash(client), ping)" if kind in STEADY else "ping"
    return f"situation * $draws + CAST(hash({source}, '{kind}') % $draws AS BIGINT)"


def bounds_name(probe: Probe) -> str:
    """Return the name of the DuckDB variable that holds the keys of a distribution's buckets."""
    return f"bounds_{probe.name if probe.range else probe.type}"


def bounds(probes: Sequence[Probe]) -> dict[str, list[str]]:
    """Return the keys of the distributions' buckets by the name of their variable."""
    distributions = [probe for probe in probes if "distribution" in probe.type]
    return {bounds_name(probe): [str(bound) for bound in probe.buckets()] for probe in distributions}


def _value(probe: Probe) -> str:
    draw = f"hash(place, '{probe.name}', $seed)"
    sent = "rare" if probe.rare else f"{draw} % 1000 < {int(probe.presence * 1000)}"
    level = _level(probe, draw)
    value = _labeled(probe, draw, level) if probe.labels else _drawn(probe, draw, level)
    return f"CASE WHEN {sent} THEN {value} END"


def _level(probe: Probe, draw: str) -> str:
    """Return a value with a hump in the middle: the mean of two uniform draws, moved by system and build."""
    moved = f"{probe.centre} + CASE WHEN regressed THEN {probe.regression} ELSE 0 END"
    system = f"CASE os WHEN 'Windows' THEN {probe.windows} WHEN 'Darwin' THEN {probe.mac} ELSE 0 END"
    hump = f"(({draw} >> 10) % 1000 + ({draw} >> 22) % 1000) / 2000.0"
    return f"({moved} + {system} + {probe.spread} * {hump})"


def _labeled(probe: Probe, draw: str, level: str) -> str:
    """Return a list with an entry for five labels in seven."""
    entries = []
    for index, label in enumerate(probe.labels):
        part = f"({draw} >> {30 + 7 * index}) % 7"
        higher = f"({level} + {part})"
        value = _inner(probe, higher) if probe.inner_labels else _drawn(probe, draw, higher, f"{part} > 3")
        pair = _pair(f"'{label}'", value)
        entries.append(f"CASE WHEN {part} > 1 THEN {pair} END")
    return f"list_filter([{', '.join(entries)}], lambda entry: entry IS NOT NULL)"


def _inner(probe: Probe, level: str) -> str:
    wholes = [(f"'{label}'", _whole(f"{level} / {i}")) for i, label in enumerate(probe.inner_labels, 1)]
    return f"[{', '.join(_pair(label, whole) for label, whole in wholes)}]"


def _drawn(probe: Probe, draw: str, level: str, chosen: str | None = None) -> str:
    if probe.type.endswith("boolean"):
        return chosen or f"({draw} >> 30) % 1000 < 1000 * ({level} - {probe.spread} / 2)"
    if probe.type == "timespan":
        return f"{{'value': {_whole(level)}, 'time_unit': 'millisecond'}}"
    return _distribution(probe, draw, _whole(level)) if "distribution" in probe.type else _whole(level)


def _whole(level: str) -> str:
    return f"CAST(floor({level}) AS BIGINT)"


def _distribution(probe: Probe, draw: str, middle: str) -> str:
    # A variable, because a list of hundreds of literals takes long to plan.
    keys, last = f"getvariable('{bounds_name(probe)}')", len(probe.buckets())
    pairs = []
    for step in (-1, 0, 1, 2):
        key = f"{keys}[greatest(2, least({middle} + {step}, {last}))]"
        count = f"CAST(1 + ({draw} >> {34 + 5 * step}) % 16 // {1 + abs(step)} AS BIGINT)"
        pairs.append(_pair(key, count))
    return f"{{'sum': CAST({draw} % 1000000 AS BIGINT), 'values': [{', '.join(pairs)}]}}"


def _pair(key: str, value: str) -> str:
    return f"{{'key': {key}, 'value': {value}}}"
