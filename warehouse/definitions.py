"""What a table is defined by: its schema, partitioning and clustering, as the REST API has them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from warehouse.errors import BigQueryError
from warehouse.schema import LEGACY_NAMES, Type, field_resource

if TYPE_CHECKING:
    from collections.abc import Iterable

Resource = dict[str, Any]
STANDARD_NAMES = {legacy: name for name, legacy in LEGACY_NAMES.items()}
SCALARS = {
    "INT64",
    "FLOAT64",
    "STRING",
    "BOOL",
    "DATE",
    "TIMESTAMP",
    "DATETIME",
    "BYTES",
    "NUMERIC",
    "BIGNUMERIC",
}
PARTITION_TYPES = {"DATE", "TIMESTAMP"}
UNCLUSTERED = {"FLOAT64", "BYTES", "STRUCT"}
FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,299}")
KEPT_OF_FIELDS = {"name", "type", "mode", "fields", "description"}
KEPT_OF_PARTITIONING = {"type", "field", "requirePartitionFilter"}
MAX_FIELDS, MAX_DEPTH, MAX_CLUSTERING = 10_000, 15, 4


class TableName(tuple[str, str, str]):
    """The project, dataset and name of a table."""

    __slots__ = ()

    def __new__(cls, project: str, dataset: str, name: str) -> TableName:
        """Make the name of three parts."""
        return super().__new__(cls, (project, dataset, name))

    def __str__(self) -> str:
        return f"{self[0]}:{self[1]}.{self[2]}"

    @property
    def reference(self) -> dict[str, str]:
        """Return the TableReference of the REST API."""
        return {"projectId": self[0], "datasetId": self[1], "tableId": self[2]}


@dataclass(frozen=True)
class Definition:
    """The fields of a table, how it is partitioned and clustered, and what else a user said of it."""

    fields: list[Resource]
    partitioning: Resource | None = None
    clustering: list[str] = field(default_factory=list)
    requires_filter: bool = False
    other: Resource = field(default_factory=dict)
    view: str = ""  # its query

    @property
    def type(self) -> Type:
        """Return the row's type."""
        return type_of(self.fields)

    @property
    def required(self) -> list[str]:
        """Return the columns that cannot be NULL."""
        return [str(f["name"]) for f in self.fields if f["mode"] == "REQUIRED"]

    @property
    def partition_column(self) -> str | None:
        """Return the column that the table is partitioned by, or None."""
        return self.partitioning["field"] if self.partitioning else None

    def resource(self) -> Resource:
        """Return the definition as properties of the REST API's Table."""
        found: Resource = dict(self.other) | {"schema": {"fields": self.fields}}
        if self.partitioning:
            found["timePartitioning"] = self.partitioning
            found["requirePartitionFilter"] = self.requires_filter
        if self.clustering:
            found["clustering"] = {"fields": self.clustering}
        if self.view:
            found["view"] = {"query": self.view, "useLegacySql": False}
        return found


KEPT_OF_TABLES = ("description", "friendlyName", "labels", "expirationTime")


def read_definition(resource: Resource) -> Definition:
    """Return the definition in a Table resource; raise BigQueryError for one that BigQuery, or this server, refuses."""
    fields = read_fields(as_object(resource, "schema").get("fields") or [])
    other = {key: resource[key] for key in KEPT_OF_TABLES if resource.get(key)}
    if view := read_view(resource):
        return Definition(fields, other=other, view=view)
    partitioning = resource.get("timePartitioning")
    return define(
        fields,
        partitioning,
        as_object(resource, "clustering").get("fields") or [],
        requires_filter=resource.get("requirePartitionFilter") is True,
        other=other,
    )


def read_view(resource: Resource) -> str:
    """Return the query of a view, nothing for a table; raise `invalid` for one in legacy SQL."""
    view = as_object(resource, "view")
    if view and view.get("useLegacySql") is not False:
        raise invalid("The embedded warehouse has views in GoogleSQL only: view.useLegacySql must be false", "view")
    return str(view.get("query") or "")


def described(fields: list[Resource], wanted: list[Resource]) -> list[Resource]:
    """Return a view's fields with the descriptions of `wanted`; raise `invalid` where those are other fields."""
    said = {(item["name"], item["type"]): item.get("description") for item in wanted}
    if wanted and list(said) != [(item["name"], item["type"]) for item in fields]:
        raise invalid("The schema of a view is that of its query: only descriptions may be given", "schema")
    return [item | ({"description": d} if (d := said.get((item["name"], item["type"]))) else {}) for item in fields]


def define(
    fields: list[Resource],
    partitioning: Resource | None,
    clustering: list[str],
    *,
    requires_filter: bool = False,
    other: Resource | None = None,
) -> Definition:
    """Return a table's definition, checked."""
    row = type_of(fields)
    kept = _partitioning(partitioning, row) if partitioning else None
    filtered = bool(kept) and (requires_filter or (partitioning or {}).get("requirePartitionFilter") is True)
    _check_clustering(clustering, row)
    return Definition(fields, kept, [str(name) for name in clustering], filtered, other or {})


def read_fields(fields: object, depth: int = 1) -> list[Resource]:
    """Return the fields of a schema with their types and modes spelled one way; raise BigQueryError for a bad one."""
    if not isinstance(fields, list) or not all(isinstance(item, dict) for item in fields):
        raise invalid("Invalid value for schema.fields: a list of objects is expected", "schema.fields")
    if depth > MAX_DEPTH or len(fields) > MAX_FIELDS:
        raise invalid(f"A schema has at most {MAX_FIELDS} fields, nested {MAX_DEPTH} deep", "schema.fields")
    found = [_field(item, depth) for item in fields]
    names = [str(item["name"]).lower() for item in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise invalid(f"Duplicate field name: {twice[0]}", "schema.fields")
    return found


def _field(item: Resource, depth: int) -> Resource:
    name, mode = str(item.get("name") or ""), str(item.get("mode") or "NULLABLE").upper()
    if not FIELD_NAME.fullmatch(name):
        raise invalid(
            f'Invalid field name "{name}". Fields must contain only letters, numbers, and underscores, '
            "start with a letter or underscore, and be at most 300 characters long.",
            "schema.fields",
        )
    kind = str(item.get("type") or "").upper()
    kind = STANDARD_NAMES.get(kind, kind)
    if kind not in SCALARS and kind != "STRUCT":
        raise invalid(f"The embedded warehouse does not support the type {kind or 'of no name'} of field {name}", name)
    if mode not in ("NULLABLE", "REQUIRED", "REPEATED"):
        raise invalid(f"Invalid mode {mode} of field {name}", name)
    if mode == "REQUIRED" and depth > 1:
        raise invalid(f"The embedded warehouse does not support REQUIRED of the nested field {name}", name)
    _refuse_others(item, KEPT_OF_FIELDS, name)
    found: Resource = {"name": name, "type": LEGACY_NAMES.get(kind, kind), "mode": mode}
    if kind == "STRUCT":
        found["fields"] = read_fields(item.get("fields") or [], depth + 1)
        if not found["fields"]:
            raise invalid(f"Field {name} is type RECORD but has no schema", name)
    return found | ({"description": item["description"]} if item.get("description") else {})


def _refuse_others(item: Resource, known: set[str], name: str) -> None:
    for key, value in item.items():
        if key not in known and value and value != {"names": []}:
            raise invalid(f"The embedded warehouse does not support {key} of {name}", key)


def type_of(fields: Iterable[Resource]) -> Type:
    """Return the type of a row with those fields."""
    return Type("STRUCT", fields={item["name"]: _type(item) for item in fields})


def _type(item: Resource) -> Type:
    return Type(
        standard_name(item), repeated=item["mode"] == "REPEATED", fields=type_of(item.get("fields") or []).fields
    )


def standard_name(item: Resource) -> str:
    """Return the name that GoogleSQL has for a field's type, such as INT64 for INTEGER."""
    name = str(item["type"])
    return STANDARD_NAMES.get(name, name)


def fields_of(row: Type) -> list[Resource]:
    """Return the fields of a row's type, none of them REQUIRED, as a query's destination table has them."""
    return [field_resource(name, kind) for name, kind in row.fields.items()]


def _partitioning(given: object, row: Type) -> Resource:
    if not isinstance(given, dict) or not given.get("field"):
        raise invalid("The embedded warehouse partitions by a column only: timePartitioning needs a field")
    _refuse_others(given, KEPT_OF_PARTITIONING, "timePartitioning")
    if str(given.get("type") or "DAY").upper() != "DAY":
        raise invalid(f"The embedded warehouse partitions by DAY only, not by {given['type']}", "timePartitioning.type")
    name = next((key for key in row.fields if key.lower() == str(given["field"]).lower()), None)
    kind = row.fields[name] if name else None
    if name is None or kind is None:
        raise invalid(f"The field specified for partitioning cannot be found in the schema: {given['field']}")
    if kind.repeated or kind.name not in PARTITION_TYPES:
        raise invalid(f"The field {name} for partitioning must be a TIMESTAMP or DATE, but it is {kind.spelled()}")
    return {"type": "DAY", "field": name}


def _check_clustering(names: object, row: Type) -> None:
    if not isinstance(names, list) or len(names) > MAX_CLUSTERING:
        raise invalid(f"Clustering takes a list of at most {MAX_CLUSTERING} fields", "clustering.fields")
    for name in names:
        kind = row.child(str(name))
        if kind is None:
            raise invalid(f"The field specified for clustering cannot be found in the schema: {name}")
        if kind.repeated or kind.name in UNCLUSTERED:
            raise invalid(f"Field {name} of type {kind.spelled()} cannot be used for clustering")


def invalid(message: str, location: str | None = None) -> BigQueryError:
    """Return BigQuery's error for a bad value in a request."""
    return BigQueryError("invalid", message, location)


def as_object(holder: Resource, key: str) -> Resource:
    """Return an object inside of another, empty when it is not there; raise `invalid` for anything else."""
    value = holder.get(key) or {}
    if not isinstance(value, dict):
        raise BigQueryError("invalid", f"Invalid value for {key}: an object is expected", key)
    return value
