"""Types at a path within a type: what a refused value could have been."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec


def choices_at(kind: object, path: Sequence[str]) -> tuple[str, ...]:
    """Return the texts to choose from at a path within a type; none where any may be."""
    kinds = dict.fromkeys(kinds_at(kind, path))
    return tuple(str(choice) for one in kinds if get_origin(one) is Literal for choice in get_args(one) if choice)


def names_at(kind: object, path: Sequence[str]) -> tuple[str, ...]:
    """Return the fields of the struct at a path within a type; none where it may be one of several structs."""
    structs = [one for one in kinds_at(kind, path) if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    return structs[0].__struct_encode_fields__ if len(structs) == 1 else ()


def kinds_at(kind: object, path: Sequence[str]) -> Iterator[Any]:
    """Yield the types that the value at a path may have; of an optional one both."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        yield from kinds_at(parts[0], path)
    elif origin in (UnionType, Union):
        for part in parts:
            yield from kinds_at(part, path)
    elif not path:
        yield kind
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield from kinds_at(_fields(kind).get(path[0]), path[1:])
    elif origin in (list, tuple, dict):
        yield from kinds_at(parts[-1 if origin is dict else 0], path[1:])


@cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, object]:
    hints = get_type_hints(kind, include_extras=True)
    return {one.encode_name: hints[one.name] for one in msgspec.structs.fields(kind)}
