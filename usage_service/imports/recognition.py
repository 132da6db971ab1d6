"""What the beginning of a file tells of its format: its JSON objects, its first lines, or the columns of its table."""

from __future__ import annotations

import codecs
import csv
from functools import lru_cache
from typing import Any

import msgspec

from usage_service.imports.json_items import items
from usage_service.imports.source import MOST_LINE_BYTES, column_name, json_shape, likely_delimiter, told_delimiter
from usage_service.problems import NOT_JSON

MOST_SEEN = 20
SPREADSHEET = "is a spreadsheet; save it as CSV"
ZIP = b"PK\x03\x04"
SIGNS_OF_SPREADSHEETS = (b"xl/", b"[Content_Types].xml", b"opendocument.spreadsheet")
CONTAINERS = {
    b"\xd0\xcf\x11\xe0": SPREADSHEET,
    **{b"BZh%d1AY&SY" % level: "is packed by bzip2; unpack it, or pack it by gzip or zstd" for level in range(1, 10)},
    b"\xfd7zXZ": "is packed by xz; unpack it, or pack it by gzip or zstd",
}


@lru_cache(maxsize=2)
def first_objects(head: bytes) -> tuple[dict[str, Any], ...]:
    """Return the first JSON objects of a file: of its lines, its array, or the document that it is."""
    shape = json_shape(head)
    if shape == "document":
        found = [head]
    elif shape == "array":
        found = [item.content for item, _ in zip(items(iter([head]), MOST_LINE_BYTES), range(MOST_SEEN), strict=False)]
    else:
        found = head.splitlines()[:MOST_SEEN]
    return tuple(value for value in map(_decoded, found) if isinstance(value, dict))


def first_lines(head: bytes) -> list[str]:
    """Return the first lines of a file that are not empty."""
    return [line for line in head.decode("utf-8", "replace").splitlines()[:MOST_SEEN] if line.strip()]


def columns(head: bytes) -> frozenset[str]:
    """Return the names of the columns of a table (CSV, separated by commas, semicolons or tabs)."""
    lines = first_lines(head)
    delimiter = told_delimiter(lines[0]) if lines else None
    if delimiter:
        del lines[0]
    if not lines or lines[0].lstrip().startswith(("{", "[")):
        return frozenset()
    try:
        cells = next(csv.reader(lines, delimiter=delimiter or likely_delimiter(lines[0])), [])
    except csv.Error:
        return frozenset()
    return frozenset(map(column_name, cells))


def container_of(head: bytes) -> str | None:
    """Return what a file is that may hold one of a format and is none itself, and the mend; None for any other."""
    if head.startswith(ZIP):
        return SPREADSHEET if any(sign in head for sign in SIGNS_OF_SPREADSHEETS) else "is a zip archive; unpack it"
    return next((what for begin, what in CONTAINERS.items() if head.startswith(begin)), None)


def not_utf8(head: bytes) -> str | None:
    """Return that a file is not UTF-8, from where on, and the mend; None where it is, or goes on so."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError as error:
        return f"is not UTF-8 at byte {error.start:,}; convert it, such as by iconv -f LATIN1 -t UTF-8"
    return None


def _decoded(content: bytes) -> object:
    try:
        return msgspec.json.decode(content)
    except NOT_JSON:
        return None
