"""What the beginning of a file tells of its format: its JSON objects, its first lines, or the columns of its table."""

from __future__ import annotations

import csv
from functools import lru_cache
from typing import Any

import msgspec

from usage_service.imports.json_items import items
from usage_service.imports.source import MOST_LINE_BYTES, json_shape
from usage_service.problems import NOT_JSON

MOST_SEEN = 20


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
    if not lines or lines[0].lstrip().startswith(("{", "[")):
        return frozenset()
    delimiter = max(",;\t", key=lines[0].count)
    try:
        return frozenset(cell.strip() for cell in next(csv.reader(lines, delimiter=delimiter), []))
    except csv.Error:
        return frozenset()


def _decoded(content: bytes) -> object:
    try:
        return msgspec.json.decode(content)
    except NOT_JSON:
        return None
