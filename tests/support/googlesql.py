"""Google's own SQL analyzer and reference engine (zetasql), on the tables of raw pings.

`python -m tests.support.googlesql` compiles the engine, unless this version of it is in the user's cache already.
"""

import fcntl
import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any, cast

import platformdirs
from google.cloud.bigquery import ArrayQueryParameter

from builder.statement import Parameter, Statement
from tests.support.glam_today_reference import Ping

PROJECT, DATASET = "moz-fx-data-shared-prod", "firefox_desktop_stable"
FENIX_DATASETS = ("org_mozilla_fenix_stable", "org_mozilla_firefox_beta_stable", "org_mozilla_firefox_stable")
TABLES = {ping: f"{PROJECT}.{DATASET}.{ping}_v1" for ping in ("metrics", "baseline")}
ALL_TABLES = {
    (dataset, ping): f"{PROJECT}.{dataset}.{ping}_v1" for dataset in (DATASET, *FENIX_DATASETS) for ping in TABLES
}
GECKOVIEW = f"{PROJECT}.org_mozilla_fenix.geckoview_version"
COUNTER, TIMING = "tab_count", "gc_ms"

DML = ("INSERT", "UPDATE", "DELETE", "MERGE")

Type = str | list["Type"] | dict[str, "Type"]
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
    """The analyzer and the reference engine."""

    def __init__(self, tables: Mapping[str, Mapping[str, Type]] | None = None) -> None:
        self._service = service = cast(Any, compiled_service())
        self._api = importlib.import_module("zetasql.api")
        self._types = importlib.import_module("zetasql.types")
        self._language = self._types.LanguageOptions.maximum_features()
        functions = self._types.ZetaSQLBuiltinFunctionOptions(language_options=self._language)
        catalog = self._api.CatalogBuilder("pings").with_builtin_functions(functions)
        for name in ALL_TABLES.values():
            catalog = catalog.add_table(self._table(name, COLUMNS))
        catalog = catalog.add_table(self._table(GECKOVIEW, GECKOVIEW_COLUMNS))
        for name, columns in (tables or {}).items():
            catalog = catalog.add_table(self._table(name, columns))
        # Once, because handing it over takes a second.
        self._catalog_id = service.register_catalog(simple_catalog=catalog.build()).registered_id

    def columns(self, statement: Statement) -> list[str]:
        """Return the names of the result's columns; raise when the statement is no valid GoogleSQL for the tables."""
        parameters = [self._parameter(parameter) for parameter in statement.parameters]
        with self._prepared(statement.sql, parameters) as query:
            return [column.name for column in query.columns]

    def check_change(self, statement: Statement) -> None:
        """Raise when the statement is no valid INSERT, UPDATE, DELETE or MERGE for the tables."""
        language = self._types.LanguageOptions.maximum_features()
        kinds = self._types.ResolvedNodeKind
        language.supported_statement_kinds = [getattr(kinds, f"RESOLVED_{name}_STMT") for name in DML]
        options = self._types.AnalyzerOptions(language_options=language, default_timezone="UTC")
        options.query_parameters = [self._parameter(parameter) for parameter in statement.parameters]
        self._service.analyze(sql_statement=statement.sql, options=options, registered_catalog_id=self._catalog_id)

    def evaluate(self, statement: Statement, pings: Sequence[Ping]) -> list[dict[str, Any]]:
        """Return the result over these pings."""
        with self._prepared(evaluable(statement, pings), []) as query:
            names = [column.name for column in query.columns]
            rows = query.execute().content.table_data.row
        return [dict(zip(names, map(plain_value, row.cell), strict=True)) for row in rows]

    def _prepared(self, sql: str, parameters: list[object]) -> AbstractContextManager[Any]:
        options = self._types.AnalyzerOptions(language_options=self._language, default_timezone="UTC")
        options.query_parameters = parameters
        builder = self._api.PreparedQueryBuilder().set_sql(sql).set_analyzer_options(options)
        prepared: AbstractContextManager[Any] = builder.set_registered_catalog_id(self._catalog_id).prepare()
        return prepared

    def _table(self, name: str, columns: Mapping[str, Type]) -> object:
        builder = self._api.TableBuilder(name)
        for column, kind in columns.items():
            builder = builder.add_column(column, self._type(kind))
        return builder.build()

    def _type(self, kind: Type) -> object:
        factory = self._api.TypeFactory
        if isinstance(kind, dict):
            return factory.create_struct_type([(name, self._type(inner)) for name, inner in kind.items()])
        if isinstance(kind, list):
            return factory.create_array_type(self._type(kind[0]))
        named = {"FLOAT64": "DOUBLE"}.get(kind, kind)
        return factory.create_simple_type(self._types.TypeKind[f"TYPE_{named}"])

    def _parameter(self, parameter: Parameter) -> object:
        kind: Type = str(getattr(parameter, "type_", None))
        if isinstance(parameter, ArrayQueryParameter):
            kind = [str(parameter.array_type)]
        return self._types.AnalyzerOptions.QueryParameter(name=parameter.name, type=self._type(kind))


def compiled_service() -> object:
    """Return the running engine; compiling it takes half a minute, but once: wasmtime caches it for the user."""
    client: Any = importlib.import_module("zetasql.core.wasm_client")
    client.Config = cached(client.Config)
    with alone():
        service: object = importlib.import_module("zetasql.core").ZetaSqlLocalService.get_instance()
        return service


@contextmanager
def alone() -> Iterator[None]:
    """Hold a lock of this user's: of processes that start together, one compiles and the others read its cache."""
    directory = platformdirs.user_cache_path("glam-usage", ensure_exists=True)
    with (directory / "zetasql.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cached(configuration: Callable[[], Any]) -> Callable[[], Any]:
    """Return a maker of configurations with wasmtime's cache of compiled modules switched on."""

    def make() -> object:
        made = configuration()
        made.cache = True
        return made

    return make


def plain_value(cell: object) -> int | str | float | bool | None:
    """Return a cell as a Python value."""
    kinds = ("int64_value", "string_value", "double_value", "bool_value")
    found = (getattr(cell, kind, None) for kind in kinds)
    return next((value for value in found if isinstance(value, int | str | float)), None)


if __name__ == "__main__":
    compiled_service()
