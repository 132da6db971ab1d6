"""Values as a table stores them, and the bytes that BigQuery counts for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from warehouse.schema import LENGTH_WIDTH, TEXTS, USUAL_WIDTH, WIDTHS, Path, Type
from warehouse.translation.value import call, struct_field

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = {"STRING": "strlen", "BYTES": "octet_length"}


def stored(value: exp.Expr, kind: Type, depth: int = 0) -> exp.Expr:
    """Return the value as a column of that type stores it: an array is never NULL, and has no NULL elements."""
    if not _holds_arrays(kind):
        return value
    if kind.repeated:
        element = Type(kind.name, fields=kind.fields)
        if _holds_arrays(element):
            value = _each(value, lambda item: stored(item, element, depth + 1), depth)
        return call("bq_stored_array", value)
    fields = [(name, stored(struct_field(value.copy(), name), child, depth)) for name, child in kind.fields.items()]
    made = exp.Struct(expressions=[exp.PropertyEQ(this=exp.Literal.string(n), expression=sql) for n, sql in fields])
    return exp.Case().when(exp.Is(this=value.copy(), expression=exp.null()), exp.null()).else_(made)


def _holds_arrays(kind: Type) -> bool:
    return kind.repeated or any(map(_holds_arrays, kind.fields.values()))


def _each(array: exp.Expr, change: Callable[[exp.Expr], exp.Expr], depth: int = 0) -> exp.Expr:
    item = exp.to_identifier(f"bq_item_{depth}")
    return call("list_transform", array, exp.Lambda(this=change(exp.Column(this=item.copy())), expressions=[item]))


def leaf_size(path: Path, row: Type) -> exp.Expr:
    """Return the sum of the logical bytes of a leaf column over the rows of a table."""
    value: exp.Expr = exp.column(path[0], quoted=True)
    kind = row.fields[path[0]]
    many = kind.repeated
    for name in path[1:]:
        kind = kind.fields[name]
        value = _inner(value, name, flatten=kind.repeated) if many else struct_field(value, name)
        many = many or kind.repeated
    sizes = call("list_sum", _each(value, lambda item: _size(item, kind.name))) if many else _size(value, kind.name)
    return call("coalesce", exp.Sum(this=sizes), exp.Literal.number(0))


def _inner(array: exp.Expr, name: str, *, flatten: bool) -> exp.Expr:
    found = _each(array, lambda item: struct_field(item, name))
    return call("flatten", found) if flatten else found


def _size(value: exp.Expr, name: str) -> exp.Expr:
    if name in TEXTS:
        return exp.Add(this=call(SIZES[name], value), expression=exp.Literal.number(LENGTH_WIDTH))
    width = exp.Literal.number(WIDTHS.get(name, USUAL_WIDTH))
    return exp.Case().when(exp.Not(this=exp.Is(this=value, expression=exp.null())), width)
