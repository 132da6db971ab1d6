"""BigQuery's types of columns and results, and their names in DuckDB and in the REST API."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from duckdb.sqltypes import DuckDBPyType

from warehouse.errors import refused

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = {
    "tinyint": "INT64",
    "smallint": "INT64",
    "integer": "INT64",
    "bigint": "INT64",
    "hugeint": "INT64",
    "double": "FLOAT64",
    "varchar": "STRING",
    "boolean": "BOOL",
    "date": "DATE",
    "timestamp with time zone": "TIMESTAMP",
    "timestamp": "DATETIME",
    "blob": "BYTES",
    "decimal(38,9)": "NUMERIC",
    "null": "INT64",
    '"null"': "INT64",
}
LEGACY_NAMES = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "STRUCT": "RECORD"}
# NUMERIC is exactly this. BIGNUMERIC has more digits, and what does not fit is refused where it would be stored.
DECIMAL = "DECIMAL(38, 9)"
DUCKDB_NAMES = {
    "INT64": "BIGINT",
    "FLOAT64": "DOUBLE",
    "STRING": "TEXT",
    "BOOL": "BOOLEAN",
    "DATE": "DATE",
    "TIMESTAMP": "TIMESTAMPTZ",
    "DATETIME": "TIMESTAMP",
    "BYTES": "BLOB",
    "NUMERIC": DECIMAL,
    "BIGNUMERIC": DECIMAL,
}
# The logical bytes of a value, and of a text beside its own bytes.
WIDTHS = {"BOOL": 1, "NUMERIC": 16, "BIGNUMERIC": 32}
USUAL_WIDTH, LENGTH_WIDTH = 8, 2
TEXTS = {"STRING", "BYTES"}
Path = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Type:
    """A BigQuery type: a scalar name, or STRUCT with fields; `repeated` makes it an ARRAY of that."""

    name: str
    repeated: bool = False
    fields: dict[str, Type] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        """Return whether the types are the same, down to the order of fields, which BigQuery goes by."""
        return isinstance(other, Type) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((self.name, self.repeated))

    def _key(self) -> tuple[object, ...]:
        return (self.name, self.repeated, tuple(self.fields.items()))

    def child(self, name: str) -> Type | None:
        """Return the type of the field of that name, in any case of letters, or None."""
        wanted = name.lower()
        return next((kind for key, kind in self.fields.items() if key.lower() == wanted), None)

    def at(self, path: Path) -> Type | None:
        """Return the type of a nested field, or None when there is no such field."""
        found: Type | None = self
        for name in path:
            found = found.child(name) if found else None
        return found

    def leaves(self, path: Path = ()) -> Iterator[tuple[Path, str]]:
        """Yield the path and scalar type of every leaf column, which is stored and billed on its own."""
        if self.name != "STRUCT":
            yield path, self.name
        for name, kind in self.fields.items():
            yield from kind.leaves((*path, name))

    def spelled(self) -> str:
        """Return the type as BigQuery's error messages write it, with long structs cut short."""
        inner = ", ".join(f"{name} {kind.spelled()}" for name, kind in list(self.fields.items())[:3])
        more = ", ..." if len(self.fields) > 3 else ""
        text = f"STRUCT<{inner}{more}>" if self.name == "STRUCT" else self.name
        return f"ARRAY<{text}>" if self.repeated else text


def to_duckdb(kind: Type) -> str:
    """Return the name of the DuckDB type that stores values of a BigQuery type."""
    name = DUCKDB_NAMES.get(kind.name, "")
    if kind.name == "STRUCT":
        name = f"STRUCT({', '.join(f'{_quoted(key)} {to_duckdb(child)}' for key, child in kind.fields.items())})"
    if not name:
        raise refused(f"a column of type {kind.name}")
    return f"{name}[]" if kind.repeated else name


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def from_duckdb(kind: DuckDBPyType) -> Type:
    """Return the BigQuery type that a DuckDB type stands for; refuse a type that stands for none."""
    if kind.id == "list":
        element = from_duckdb(_child(kind, 0))
        if element.repeated:
            raise refused("an array of arrays")
        return Type(element.name, repeated=True, fields=element.fields)
    if kind.id == "struct":
        return Type(
            "STRUCT", fields={str(kind.children[i][0]): from_duckdb(_child(kind, i)) for i in range(len(kind.children))}
        )
    name = NAMES.get(str(kind).lower())
    if name is None:
        raise refused(f"a result of DuckDB's type {kind}")
    return Type(name)


def _child(kind: DuckDBPyType, index: int) -> DuckDBPyType:
    child = kind.children[index][1]
    if not isinstance(child, DuckDBPyType):
        raise refused(f"the type {kind}")
    return child


def field_resource(name: str, kind: Type) -> dict[str, object]:
    """Return a field as the REST API's TableFieldSchema."""
    resource: dict[str, object] = {
        "name": name,
        "type": LEGACY_NAMES.get(kind.name, kind.name),
        "mode": "REPEATED" if kind.repeated else "NULLABLE",
    }
    if kind.name == "STRUCT":
        resource["fields"] = [field_resource(key, child) for key, child in kind.fields.items()]
    return resource
