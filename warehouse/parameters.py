"""Query parameters of the REST API: their BigQuery types, and values that DuckDB can bind."""

from __future__ import annotations

import datetime as dt
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from warehouse.errors import BigQueryError, refused
from warehouse.schema import Type

if TYPE_CHECKING:
    from collections.abc import Callable

TYPES = {"INT64", "FLOAT64", "STRING", "BOOL", "DATE", "TIMESTAMP"}
ALIASES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
Scalar = int | float | str | bool | dt.date | dt.datetime | None


@dataclass(frozen=True)
class Parameter:
    """A named parameter: its type, and its value as DuckDB binds it."""

    type: Type
    value: Scalar | list[Scalar]


def read_parameters(query: dict[str, Any]) -> dict[str, Parameter]:
    """Return the named parameters of a query configuration by lower-case name; raise BigQueryError for a bad one."""
    entries = query.get("queryParameters") or []
    if entries and str(query.get("parameterMode", "NAMED")).upper() != "NAMED":
        raise refused("positional query parameters")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BigQueryError("invalid", "Invalid value for queryParameters: a list of objects is expected")
    found: dict[str, Parameter] = {}
    for entry in entries:
        name = str(entry.get("name") or "").lower()
        if not name or name in found:
            raise BigQueryError("invalid", f"Query parameter name '{name}' is empty or used twice")
        found[name] = _parameter(name, entry)
    return found


def _parameter(name: str, entry: dict[str, Any]) -> Parameter:
    declared, value = entry.get("parameterType") or {}, entry.get("parameterValue") or {}
    if not isinstance(declared, dict) or not isinstance(value, dict):
        raise BigQueryError("invalid", f"Query parameter '{name}' needs parameterType and parameterValue objects")
    kind = str(declared.get("type", "")).upper()
    if kind == "ARRAY":
        element = _type((declared.get("arrayType") or {}).get("type"))
        items = [_scalar(name, element, item.get("value")) for item in value.get("arrayValues") or []]
        return Parameter(Type(element, repeated=True), list(items))
    return Parameter(Type(_type(kind)), _scalar(name, _type(kind), value.get("value")))


def _type(name: object) -> str:
    text = str(name).upper()
    text = ALIASES.get(text, text)
    if text not in TYPES:
        raise refused(f"a query parameter of type {name}")
    return text


def _scalar(name: str, kind: str, text: object) -> Scalar:
    if text is None:
        return None
    try:
        return READERS[kind](str(text))
    except (ValueError, KeyError):
        raise BigQueryError("invalid", f"Invalid value for query parameter '{name}': {text!r} is no {kind}") from None


def _integer(text: str) -> int:
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise ValueError(text)
    return value


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _timestamp(text: str) -> dt.datetime:
    plain = re.sub(r"\s*(UTC|Z)$", "+00:00", text.strip())
    moment = dt.datetime.fromisoformat(plain)
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


READERS: dict[str, Callable[[str], Scalar]] = {
    "INT64": _integer,
    "FLOAT64": _float,
    "STRING": str,
    "BOOL": lambda text: {"true": True, "false": False}[text.lower()],
    "DATE": dt.date.fromisoformat,
    "TIMESTAMP": _timestamp,
}
