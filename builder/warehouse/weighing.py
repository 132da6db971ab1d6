"""What a table weighs: logical bytes by leaf column and day, by BigQuery's rules for the size of a value."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from builder.warehouse.schema import Type, from_duckdb

if TYPE_CHECKING:
    import duckdb

BYTES = {"BOOL": 1}
OTHERWISE = 8
REGISTER = "INSERT INTO about.tables VALUES (?, ?, ?, 'submission_timestamp')"


def weigh(connection: duckdb.DuckDBPyConnection, project: str, dataset: str, table: str) -> None:
    """Store the bytes of every leaf column and day of a table, and that it exists."""
    schema = f"{project}.{dataset}"
    relation = connection.table(f'"{schema}"."{table}"')
    row = Type("STRUCT", fields=dict(zip(relation.columns, map(from_duckdb, relation.types), strict=True)))
    sql = files(__package__).joinpath("sql", "leaf_bytes.sql").read_text()
    sql = sql.replace("{schema}", schema).replace("{table}", table)
    for name, kind in row.fields.items():
        paths, sums = _leaves(name, kind)
        connection.execute(sql.replace("{paths}", paths).replace("{sums}", sums), [project, dataset, table])
    connection.execute(REGISTER, [project, dataset, table])


def _leaves(name: str, kind: Type) -> tuple[str, str]:
    """The paths of a column's leaves and the sums of their bytes, two lists in SQL."""
    column, paths = f'"{name}"', [path for path, _ in kind.leaves()]
    sums = [f"coalesce(sum({_size(column, kind, path)}), 0)" for path in paths]
    return str([[name, *path] for path in paths]), f"[{', '.join(sums)}]"


def _size(value: str, kind: Type, path: tuple[str, ...]) -> str:
    if kind.repeated:
        element = _size("item", Type(kind.name, fields=kind.fields), path)
        return f"list_sum(list_transform({value}, lambda item: {element}))"
    if path:
        child = kind.child(path[0])
        return _size(f"struct_extract({value}, '{path[0]}')", child, path[1:]) if child else "0"
    if kind.name == "STRING":
        return f"(2 + strlen({value}))"
    return f"CASE WHEN {value} IS NOT NULL THEN {BYTES.get(kind.name, OTHERWISE)} END"
