"""Raw pings as tables and texts of GoogleSQL, and what Google's own analyzer and reference engine say of statements."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from google.cloud.bigquery import ArrayQueryParameter

from tests.support.glam_today_reference import Ping
from tests.support.reference_engine import ReferenceEngine, Type
from tests.support.remembered import remembered
from usage_service.shared.bigquery.statement import Parameter, Statement

PROJECT, DATASET = "moz-fx-data-shared-prod", "firefox_desktop_stable"
FENIX_DATASETS = ("org_mozilla_fenix_stable", "org_mozilla_firefox_beta_stable", "org_mozilla_firefox_stable")
TABLES = {ping: f"{PROJECT}.{DATASET}.{ping}_v1" for ping in ("metrics", "baseline")}
ALL_TABLES = {
    (dataset, ping): f"{PROJECT}.{dataset}.{ping}_v1" for dataset in (DATASET, *FENIX_DATASETS) for ping in TABLES
}
GECKOVIEW = f"{PROJECT}.org_mozilla_fenix.geckoview_version"
COUNTER, TIMING = "tab_count", "gc_ms"

PAIRS: Type = [{"key": "STRING", "value": "INT64"}]
DISTRIBUTION: Type = {"sum": "INT64", "values": PAIRS}
METRICS: dict[str, tuple[str, Type]] = {
    "boolean": ("dark_mode", "BOOL"),
    "counter": (COUNTER, "INT64"),
    "quantity": ("cores", "INT64"),
    "timespan": ("startup", {"value": "INT64", "time_unit": "STRING"}),
    "labeled_counter": ("gc_reason", PAIRS),
    "labeled_boolean": ("migrated", [{"key": "STRING", "value": "BOOL"}]),
    "dual_labeled_counter": ("codec_used", [{"key": "STRING", "value": PAIRS}]),
    "timing_distribution": (TIMING, DISTRIBUTION),
    "memory_distribution": ("memory_total", DISTRIBUTION),
    "custom_distribution": ("bookmarks", DISTRIBUTION),
    "labeled_timing_distribution": ("frame_time", [{"key": "STRING", "value": DISTRIBUTION}]),
    "labeled_memory_distribution": ("heap_size", [{"key": "STRING", "value": DISTRIBUTION}]),
    "labeled_custom_distribution": ("cookies", [{"key": "STRING", "value": DISTRIBUTION}]),
}
PROBES = {metric_type: probe for metric_type, (probe, _) in METRICS.items()}
CLIENT_INFO: Type = dict.fromkeys(("client_id", "os", "app_build", "app_channel", "app_display_version"), "STRING")


CHANGED: dict[str, Type] = {"changed": "STRING"}  # a probe of every type that is none of it any more


def columns_of(*metric_types: str) -> dict[str, Type]:
    """Return the columns of a ping's table, with those of some metric types."""
    return {
        "submission_timestamp": "TIMESTAMP",
        "sample_id": "INT64",
        "client_info": CLIENT_INFO,
        "metadata": {"isp": {"name": "STRING"}},
        "metrics": {name: {METRICS[name][0]: METRICS[name][1], **CHANGED} for name in metric_types},
    }


COLUMNS = columns_of(*METRICS)
GECKOVIEW_COLUMNS: dict[str, Type] = {"build_hour": "TIMESTAMP", "geckoview_major_version": "INT64"}
# Two hours of FENIX_BUILDS, one that no ping has, and those at the edges of the window of builds; others are left out.
GECKOVIEW_VERSIONS = {"2026103009": 150, "2026111221": 149, "2026111200": 150} | dict.fromkeys(
    ("2025112000", "2025112001", "2026112223", "2026112300"), 150
)


def stored(sent: object, kind: Type) -> object:
    """Return what a ping sends of a probe, as it is in the probe's column."""
    if isinstance(kind, list):
        element = kind[0]
        assert isinstance(element, dict)
        assert sent is None or isinstance(sent, Sequence)
        return [{"key": key, "value": stored(value, element["value"])} for key, value in sent or ()]
    if isinstance(kind, dict):
        if "values" in kind:
            return {"sum": None, "values": stored(sent, kind["values"])}
        return {"value": sent, "time_unit": None}
    return sent


def record(ping: Ping) -> dict[str, Any]:
    """Return the ping as a row of its table."""
    return {
        "submission_timestamp": ping.submitted,
        "sample_id": ping.sample_id,
        "client_info": {
            "client_id": ping.client_id,
            "os": ping.os,
            "app_build": ping.app_build,
            "app_channel": ping.app_channel,
            "app_display_version": ping.display_version,
        },
        "metadata": {"isp": {"name": ping.isp}},
        "metrics": {
            name: {probe: stored(ping.sent.get(name), kind), "changed": None} for name, (probe, kind) in METRICS.items()
        },
    }


def geckoview_rows() -> list[dict[str, object]]:
    """Return the rows of the table that has the version of Fenix nightly by build hour."""
    hours = {datetime.strptime(hour, "%Y%m%d%H").replace(tzinfo=UTC): v for hour, v in GECKOVIEW_VERSIONS.items()}
    return [dict(zip(GECKOVIEW_COLUMNS, row, strict=True)) for row in hours.items()]


def spelled(kind: Type) -> str:
    """Return the type in SQL."""
    if isinstance(kind, str):
        return kind
    if isinstance(kind, list):
        return f"ARRAY<{spelled(kind[0])}>"
    return f"STRUCT<{', '.join(f'{name} {spelled(inner)}' for name, inner in kind.items())}>"


def literal(value: object, kind: Type) -> str:
    """Return the value in SQL."""
    if isinstance(kind, dict):
        assert isinstance(value, Mapping)
        return f"STRUCT({', '.join(literal(value[name], inner) for name, inner in kind.items())})"
    if isinstance(kind, list):
        assert isinstance(value, Sequence)
        return f"{spelled(kind)}[{', '.join(literal(item, kind[0]) for item in value)}]"
    if value is None:
        return f"CAST(NULL AS {kind})"
    if isinstance(value, str):
        return f"CAST({json.dumps(value, ensure_ascii=False)} AS {kind})"
    return str(value) if kind in ("INT64", "FLOAT64", "BOOL") else f"CAST('{value}' AS {kind})"


def evaluable(statement: Statement, pings: Sequence[Ping]) -> str:
    """Return the statement with tables and parameters written out, so that any engine of GoogleSQL can evaluate it."""
    sql = statement.sql
    columns = columns_of(*(name for name in METRICS if f"metrics.{name}." in sql))
    for (dataset, ping_type), name in ALL_TABLES.items():
        if f"`{name}`" in sql:
            own = [ping for ping in pings if (f"{ping.dataset}_stable", ping.ping_type) == (dataset, ping_type)]
            sql = sql.replace(f"`{name}`", f"UNNEST({literal([record(ping) for ping in own], [columns])})")
    sql = sql.replace(f"`{GECKOVIEW}`", f"UNNEST({literal(geckoview_rows(), [GECKOVIEW_COLUMNS])})")
    values = {parameter.name: written(parameter) for parameter in statement.parameters}
    return re.sub(r"@(\w+)", lambda place: values[place[1]], sql)


def written(parameter: Parameter) -> str:
    """Return the parameter's value in SQL."""
    if isinstance(parameter, ArrayQueryParameter):
        return literal(parameter.values, [str(parameter.array_type)])
    return literal(parameter.value, str(parameter.type_))


class GoogleSql:
    """Asks the analyzer and the reference engine about statements over tables; what they once said is remembered.

    They say it of the text, the tables and the engine alone, and take a second for each; to start them takes some more.
    """

    def __init__(self, tables: Mapping[str, Mapping[str, Type]] | None = None) -> None:
        self._tables = dict.fromkeys(ALL_TABLES.values(), COLUMNS) | {GECKOVIEW: GECKOVIEW_COLUMNS} | dict(tables or {})

    def columns(self, statement: Statement) -> list[str]:
        """Return the names of the result's columns; raise RefusedError where it is no valid GoogleSQL."""
        return self._ask("columns", statement.sql, kinds_of(statement))

    def check_change(self, statement: Statement) -> None:
        """Raise RefusedError where the statement is no valid INSERT, UPDATE, DELETE or MERGE for the tables."""
        self._ask("check_change", statement.sql, kinds_of(statement))

    def evaluate(self, statement: Statement, pings: Sequence[Ping]) -> list[dict[str, Any]]:
        """Return the result over these pings."""
        return self._ask("evaluate", evaluable(statement, pings), {})

    def _ask(self, question: str, sql: str, kinds: dict[str, Type]) -> list[Any]:
        asked = [question, sql, kinds, self._tables]
        return remembered(asked, lambda: getattr(self._engine, question)(sql, kinds))

    @cached_property
    def _engine(self) -> ReferenceEngine:
        return ReferenceEngine(self._tables)


def kinds_of(statement: Statement) -> dict[str, Type]:
    """Return the types of the parameters."""
    return {str(parameter.name): kind_of(parameter) for parameter in statement.parameters}


def kind_of(parameter: Parameter) -> Type:
    """Return the type of a parameter."""
    if isinstance(parameter, ArrayQueryParameter):
        return [str(parameter.array_type)]
    return str(parameter.type_)
