"""Google's own SQL analyzer and reference engine, zetasql.

`python -m tests.support.reference_engine` compiles it, unless this version of it is in the user's cache already.
"""

import fcntl
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import platformdirs

from tests.support.remembered import RefusedError

DML = ("INSERT", "UPDATE", "DELETE", "MERGE")

Type = str | list["Type"] | dict[str, "Type"]
Kinds = Mapping[str, Type]


class ReferenceEngine:
    """The analyzer and the reference engine, on some tables."""

    def __init__(self, tables: Mapping[str, Mapping[str, Type]]) -> None:
        self._service = service = cast(Any, compiled_service())
        self._api = importlib.import_module("zetasql.api")
        self._types = importlib.import_module("zetasql.types")
        self._language = self._types.LanguageOptions.maximum_features()
        functions = self._types.ZetaSQLBuiltinFunctionOptions(language_options=self._language)
        catalog = self._api.CatalogBuilder("pings").with_builtin_functions(functions)
        for name, columns in tables.items():
            catalog = catalog.add_table(self._table(name, columns))
        # Once, because handing it over takes a second.
        self._catalog_id = service.register_catalog(simple_catalog=catalog.build()).registered_id

    def columns(self, sql: str, kinds: Kinds) -> list[str]:
        """Return the names of the result's columns, of a query with parameters of these types."""
        with refusals(), self._prepared(sql, kinds) as query:
            return [column.name for column in query.columns]

    def check_change(self, sql: str, kinds: Kinds) -> list[None]:
        """Return nothing, but refuse what is no valid INSERT, UPDATE, DELETE or MERGE."""
        language = self._types.LanguageOptions.maximum_features()
        statements = self._types.ResolvedNodeKind
        language.supported_statement_kinds = [getattr(statements, f"RESOLVED_{name}_STMT") for name in DML]
        with refusals():
            self._service.analyze(
                sql_statement=sql, options=self._options(language, kinds), registered_catalog_id=self._catalog_id
            )
        return []

    def evaluate(self, sql: str, kinds: Kinds) -> list[dict[str, Any]]:
        """Return the result of a query."""
        with refusals(), self._prepared(sql, kinds) as query:
            names = [column.name for column in query.columns]
            rows = query.execute().content.table_data.row
        return [dict(zip(names, map(plain_value, row.cell), strict=True)) for row in rows]

    def _prepared(self, sql: str, kinds: Kinds) -> AbstractContextManager[Any]:
        builder = self._api.PreparedQueryBuilder().set_sql(sql)
        builder = builder.set_analyzer_options(self._options(self._language, kinds))
        prepared: AbstractContextManager[Any] = builder.set_registered_catalog_id(self._catalog_id).prepare()
        return prepared

    def _options(self, language: object, kinds: Kinds) -> object:
        options = self._types.AnalyzerOptions(language_options=language, default_timezone="UTC")
        parameter = self._types.AnalyzerOptions.QueryParameter
        options.query_parameters = [parameter(name=name, type=self._type(kind)) for name, kind in kinds.items()]
        return options

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


@contextmanager
def refusals() -> Iterator[None]:
    """Raise RefusedError in place of what the engine says of a statement that is wrong."""
    refused: type[Exception] = importlib.import_module("zetasql.core.exceptions").ServerError
    try:
        yield
    except refused as error:
        raise RefusedError(str(error)) from error


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
