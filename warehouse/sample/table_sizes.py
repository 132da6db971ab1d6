"""The sizes of the tables: logical bytes by leaf column and day, by BigQuery's rules for the size of a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from warehouse.queries import query, render
from warehouse.sample.pings import PROJECT
from warehouse.schema import Path, Type, from_duckdb

if TYPE_CHECKING:
    import duckdb

    from warehouse.sample.populations import GeckoviewTable, SampleTable

BOOL_BYTES, OTHER_BYTES = 1, 8
DRAWN = "metrics"


def store_sizes(connection: duckdb.DuckDBPyConnection, table: SampleTable) -> None:
    """Add a filled table to the catalogue, with the bytes of every leaf column and day.

    Each drawn value is sized once and counted as often as it was taken: to size every ping would take longer than to
    make it.
    """
    relation = connection.table(f'"{PROJECT}.{table.dataset}"."{table.name}"')
    columns = dict(zip(relation.columns, map(from_duckdb, relation.types), strict=True))
    for metric_type, drawn in columns.pop(DRAWN).fields.items():
        _store_drawn(connection, table, metric_type, drawn)
    for name, kind in columns.items():
        paths, sizes = _leaves((name,), f'"{name}"', kind)
        sums = ", ".join(f"coalesce(sum({size}), 0)" for size in sizes)
        _store(connection, "leaf_bytes", table, {"paths": str(paths), "sums": f"[{sums}]"})
    connection.execute(query("sample", "add_table"), [PROJECT, table.dataset, table.name])


def store_whole_sizes(connection: duckdb.DuckDBPyConnection, table: GeckoviewTable, rows: int) -> None:
    """Add a table without partitions to the catalogue, whose columns are all numbers and instants."""
    name = [PROJECT, table.dataset, table.name]
    for column in table.columns:
        connection.execute(query("sample", "add_whole_leaf"), [*name, column, OTHER_BYTES * rows])
    connection.execute(query("sample", "add_whole_table"), name)


def _store_drawn(connection: duckdb.DuckDBPyConnection, table: SampleTable, metric_type: str, drawn: Type) -> None:
    paths, sizes = _leaves((DRAWN, metric_type), metric_type, drawn)
    sums = ", ".join(f"coalesce(sum(n * sizes[{i}]), 0)" for i in range(1, len(sizes) + 1))
    places = {"kind": metric_type, "paths": str(paths), "sizes": f"[{', '.join(sizes)}]", "sums": f"[{sums}]"}
    _store(connection, "draw_bytes", table, places)


def _store(connection: duckdb.DuckDBPyConnection, name: str, table: SampleTable, places: dict[str, str]) -> None:
    sql = render(name, schema=f"{PROJECT}.{table.dataset}", table=table.name, **places)
    connection.execute(sql, [PROJECT, table.dataset, table.name])


def _leaves(path: Path, value: str, kind: Type) -> tuple[list[list[str]], list[str]]:
    """Return the paths of a column's leaves, and the bytes of each in SQL."""
    below = [leaf for leaf, _ in kind.leaves()]
    return [[*path, *leaf] for leaf in below], [_size(value, kind, leaf) for leaf in below]


def _size(value: str, kind: Type, path: tuple[str, ...]) -> str:
    if kind.repeated:
        element = _size("item", Type(kind.name, fields=kind.fields), path)
        return f"list_sum(list_transform({value}, lambda item: {element}))"
    if path:
        child = kind.child(path[0])
        return _size(f"struct_extract({value}, '{path[0]}')", child, path[1:]) if child else "0"
    if kind.name == "STRING":
        return f"(2 + strlen({value}))"
    return f"CASE WHEN {value} IS NOT NULL THEN {BOOL_BYTES if kind.name == 'BOOL' else OTHER_BYTES} END"
