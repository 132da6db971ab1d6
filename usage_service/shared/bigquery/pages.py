"""Pages of a statement's result as columns: to convert these takes a tenth of making each row by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from google.cloud.bigquery import SchemaField
from google.cloud.bigquery.table import RowIterator

Page = Mapping[str, Sequence[Any]]
"""The values of each column by its name; all columns have as many."""

SCALARS: Mapping[str, Callable[[str], object]] = {
    "INTEGER": int,
    "INT64": int,
    "FLOAT": float,
    "FLOAT64": float,
    "BOOLEAN": "true".__eq__,
    "BOOL": "true".__eq__,
    "STRING": str,
}


def read_pages(result: RowIterator) -> Iterator[Page]:
    """Yield the pages of a result, fetched as they are asked for.

    Raise ValueError for another type than numbers, texts, booleans, and arrays of these.
    """
    for page in result.pages:
        values = [row["f"] for row in page.raw_page.get("rows", ())]
        yield {
            field.name: _column(field, [row[place]["v"] for row in values]) for place, field in enumerate(result.schema)
        }


def rows_of(pages: Iterable[Page]) -> Iterator[dict[str, Any]]:
    """Return the rows of pages one by one, for a result of a few rows."""
    return (dict(zip(page, values, strict=True)) for page in pages for values in zip(*page.values(), strict=True))


def _column(field: SchemaField, values: Sequence[Any]) -> Sequence[Any]:
    if field.field_type not in SCALARS:
        raise ValueError(f"the column {field.name} is a {field.field_type}; only these are read: {', '.join(SCALARS)}")
    read = SCALARS[field.field_type]
    if field.mode == "REPEATED":
        return [[read(item["v"]) for item in items] for items in values]
    if read is str:
        return values
    return [None if value is None else read(value) for value in values]
