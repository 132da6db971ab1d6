"""Tables: the list of an answer as rows of CSV, by one rule for every answer.

The columns are the fields of the list's items: those of a struct in an item follow its name (`worth_bytes`), those of
a mapping of known keys, too. A list of words or numbers is one cell with spaces between them, and what is nested deeper
is JSON. None is an empty cell.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

from usage_service.shared.formulas import no_formula

Item = Mapping[str, Any]


class Table(NamedTuple):
    """Columns of an answer's table, and what makes its rows of the answer as it was decoded from JSON."""

    columns: Sequence[str]
    rows: Callable[[Item], Iterable[Sequence[object]]]

    def csv(self, answer: bytes) -> bytes:
        """Return an answer in JSON as CSV, with a line of names."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([cell(value) for value in row] for row in self.rows(msgspec.json.decode(answer)))
        return text.getvalue().encode()


def table_of(kind: type[msgspec.Struct], path: str) -> Table:
    """Return the table of the list in an answer; `series.buckets` is the list in each item of another list.

    Fields beside the inner list that are neither lists nor structs are repeated in its rows.
    """
    outer, _, inner = path.partition(".")
    item = _item_of(kind, outer)
    if not inner:
        places = tuple(_places(item))
        return Table(_names(places), lambda answer: (_row(one, places) for one in answer[outer]))
    if get_origin(get_type_hints(kind)[outer]) is not list:  # a struct with the list
        places = tuple(_places(_item_of(item, inner)))
        return Table(_names(places), lambda answer: (_row(one, places) for one in answer[outer][inner]))
    beside, places = tuple(_scalars(item)), tuple(_places(_item_of(item, inner)))
    return Table(
        (*_names(beside), *_names(places)),
        lambda answer: (_row(one, beside) + _row(each, places) for one in answer[outer] for each in one[inner]),
    )


def cell(value: object) -> object:
    """Return a value of JSON as a cell; a text that would be a formula is none any more."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list) and all(_is_word(one) for one in value):
        value = " ".join(map(str, value))
    elif isinstance(value, list | dict):
        value = msgspec.json.encode(value).decode()
    return no_formula(value) if isinstance(value, str) else value


def _is_word(value: object) -> bool:
    return isinstance(value, int | float) or (isinstance(value, str) and " " not in value)


def _row(item: Item, places: Sequence[tuple[str, ...]]) -> list[object]:
    return [_value(item, place) for place in places]


def _value(item: Item, place: Sequence[str]) -> object:
    found: Any = item
    for name in place:
        found = None if found is None else found.get(name)
    return found


def _names(places: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple("_".join(place) for place in places)


def _places(kind: type[msgspec.Struct]) -> Iterator[tuple[str, ...]]:
    hints = get_type_hints(kind)
    for field in msgspec.structs.fields(kind):
        hint = hints[field.name]
        nested = _struct_in(hint)
        if nested:
            yield from ((field.encode_name, *place) for place in _places(nested))
        elif get_origin(hint) is dict and get_origin(get_args(hint)[0]) is Literal:
            yield from ((field.encode_name, key) for key in get_args(get_args(hint)[0]))
        else:
            yield (field.encode_name,)


def _scalars(kind: type[msgspec.Struct]) -> Iterator[tuple[str, ...]]:
    hints = get_type_hints(kind)
    for field in msgspec.structs.fields(kind):
        if get_origin(hints[field.name]) not in (list, dict):
            yield (field.encode_name,)


def _item_of(kind: type[msgspec.Struct], name: str) -> type[msgspec.Struct]:
    hint = get_type_hints(kind)[name]
    found = _struct_in(get_args(hint)[0] if get_origin(hint) is list else hint)
    if found is None:
        raise TypeError(f"{kind.__name__}.{name} holds no structs, so it is no table")
    return found


def _struct_in(hint: object) -> type[msgspec.Struct] | None:
    """Return the struct that a type is, or may be besides None."""
    options = [one for one in get_args(hint) if one is not NoneType] if _is_union(hint) else [hint]
    only = options[0] if len(options) == 1 else None
    return only if isinstance(only, type) and issubclass(only, msgspec.Struct) else None


def _is_union(hint: object) -> bool:
    return get_origin(hint) in (Union, UnionType)
