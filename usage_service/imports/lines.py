"""What the formats of files have in common: what they are, lines with their events, and the options of an import."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from usage_service.imports.refusals import Refusal, refusal_of
from usage_service.imports.source import Row, Source, Value

JsonObject = dict[str, Any]
ONE_HOST = "one host"
NOT_AN_OBJECT = Refusal(None, "must be a JSON object")


class Line(NamedTuple):
    """A line of a file: the events that it stands for, or its refusal, or why it is nothing to record.

    `unmatched` is the path of a request that no rule matches, without its query string, after its method if not GET.
    """

    number: int
    events: list[JsonObject]
    refusal: Refusal | None = None
    left_out: str | None = None
    unmatched: str | None = None


def object_lines(
    values: Iterable[Row | Value], read: Callable[[int, JsonObject], Line], kind: object = None
) -> Iterator[Line]:
    """Read each object by `read`, one a line; refuse what is none, and that for which `read` raises ValidationError.

    `kind` is the type that `read` takes it for, which refusals tell of.
    """
    for number, value, refusal in values:
        if not isinstance(value, dict):
            yield Line(number, [], refusal or NOT_AN_OBJECT)
            continue
        try:
            line = read(number, value)
        except msgspec.ValidationError as error:
            line = Line(number, [], refusal_of(error, kind))
        yield line


@dataclass(frozen=True)
class Options:
    """What the person who imports says about files that do not say it themselves."""

    product: str | None = None
    channel: str | None = None
    host: str = ONE_HOST
    rules: Path | None = None
    as_of: datetime | None = None


NO_OPTIONS = Options()


class Example(NamedTuple):
    """A file of a format, with its name where the name says something, and the product that has to be given."""

    text: str
    name: str = "FILE"
    product: str | None = None


@dataclass(frozen=True)
class Format:
    """A format of files: its name for `--format`, how its content is recognized, and how its lines are read.

    `lines` may be given a source that begins after lines which were imported before: it keeps nothing from one line
    to the next, unless it reads the whole document.

    The reference page tells of the `fields`, and of what becomes of each line of the `example`: a file with lines that
    are read and lines that are refused.
    """

    name: str
    title: str
    recognizes: Callable[[bytes, str], bool] = field(repr=False)
    lines: Callable[[Source, Options], Iterator[Line]] = field(repr=False)
    fields: tuple[type[msgspec.Struct], ...] = field(default=(), repr=False)
    example: Example | None = field(default=None, repr=False)
