"""The values of an event as an app meant them: a number for a text, 0 or 1 for a flag, a day for an instant."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from enum import Enum
from functools import cache
from numbers import Integral
from uuid import UUID

from msgspec import inspect

from usage_service.client.outgoing import WrongEventError
from usage_service.events import EVENT_TYPES

MOST_DIGITS = 18  # of a text that is taken as a number


def as_text(field: str, value: object) -> str | None:
    """Return the text of a text, an integer or a UUID. Raise WrongEventError for anything else: True is no text."""
    if value is None or type(value) is str:
        return value
    plain = value.value if isinstance(value, Enum) else value
    if not isinstance(plain, bool) and isinstance(plain, str | UUID | Integral):
        return str(plain)
    raise WrongEventError(f"{field} is of type {type(plain).__name__}; give a text, an integer or a UUID")


def as_instant(value: object) -> datetime:
    """Return an instant with a zone: now for None, the beginning of a day; without a zone it is local time.

    Raise WrongEventError for what is no time, or outside the calendar.
    """
    if value is None:
        return datetime.now(UTC)
    try:
        given = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(given, date) and not isinstance(given, datetime):
            given = datetime.combine(given, time.min)
        if isinstance(given, datetime):
            return given if given.tzinfo else given.astimezone()
    except (ValueError, OverflowError, OSError):
        raise WrongEventError("occurred_at is no time of the calendar; give a datetime, or RFC 3339 text") from None
    raise WrongEventError(f"occurred_at is of type {type(value).__name__}; give a datetime, a date or RFC 3339 text")


def as_data(kind: str, data: object) -> Mapping[str, object] | None:
    """Return the data with its values as their fields have them, where one can mean only that; others stay as they are.

    Raise WrongEventError for what is no mapping. The data of types of the app's own (`x_...`) stays as it is.
    """
    if data is None:
        return None
    if not isinstance(data, Mapping):
        raise WrongEventError(f"data is of type {type(data).__name__}; give a dict")
    fields = _fields(kind)
    return {name: _meant(value, fields[name]) if name in fields else value for name, value in data.items()}


@cache
def _fields(kind: str) -> dict[str, inspect.Type]:
    event = EVENT_TYPES.get(kind)
    if event is None:
        return {}
    data = inspect.type_info(event.data_type())
    return {field.encode_name: field.type for field in data.fields} if isinstance(data, inspect.StructType) else {}


def _meant(value: object, kind: inspect.Type) -> object:
    if isinstance(kind, inspect.UnionType):
        several = [one for one in kind.types if not isinstance(one, inspect.NoneType)]
        return _meant(value, several[0]) if len(several) == 1 else value
    if isinstance(kind, inspect.ListType) and isinstance(value, list | tuple):
        return [_meant(item, kind.item_type) for item in value]
    if isinstance(value, bool):
        return value
    if isinstance(kind, inspect.StrType) and isinstance(value, Integral | UUID):
        return as_text("data", value)
    if isinstance(kind, inspect.BoolType) and isinstance(value, Integral) and value in (0, 1):
        return bool(value)
    if isinstance(kind, inspect.IntType):
        return _number(value)
    return value


def _number(value: object) -> object:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= MOST_DIGITS:
        return int(value)
    whole = isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
    return int(value) if whole and isinstance(value, Integral | float) else value
