"""Revisions of builds, a row each: channel, id and revision of a build, and its product where the row names one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from usage_service.events import Channel, Product, RevisionPublishedData
from usage_service.imports.lines import Example, Format, JsonObject, Line, Options, object_lines
from usage_service.imports.recognition import columns, first_objects
from usage_service.imports.refusals import checked
from usage_service.imports.source import Source

FIELDS = frozenset({"channel", "build_id", "revision"})
HOUR = "%Y%m%d%H"  # how a build id begins


class RevisionRow(RevisionPublishedData, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Row of a file of revisions."""

    channel: Channel
    product: Product


def recognizes(head: bytes, _name: str) -> bool:
    """Return whether a table or the first objects of a file are revisions of builds."""
    return columns(head) >= FIELDS or any(value.keys() >= FIELDS for value in first_objects(head))


def lines(source: Source, options: Options) -> Iterator[Line]:
    """Read the revisions, one a row or a value."""
    values = source.rows() if columns(source.head) >= FIELDS else source.values()
    return object_lines(values, lambda number, row: Line(number, [revision_event(row, options.product)]))


def revision_event(row: JsonObject, product: str | None) -> JsonObject:
    """Return the event of a row, at the hour of its build; it is of `product` unless the row names another.

    Raise msgspec.ValidationError with the field of the row that is wrong.
    """
    if not row.get("product") and product is None:
        raise msgspec.ValidationError("is not in the row; say which it is with --product - at `$.product`")
    read = checked(row if row.get("product") else row | {"product": product}, RevisionRow)
    return {
        "type": "revision_published",
        "occurred_at": _built_at(read.build_id).isoformat(),
        "product": read.product,
        "channel": read.channel,
        "data": {"build_id": read.build_id, "revision": read.revision},
    }


def _built_at(build_id: str) -> datetime:
    try:
        return datetime.strptime(build_id[:10], HOUR).replace(tzinfo=UTC)
    except ValueError:
        raise msgspec.ValidationError(
            "must begin with the hour of the build, such as 2026111910 - at `$.build_id`"
        ) from None


EXAMPLE = Example("""\
product,channel,build_id,revision
fog,nightly,20261119104512,8b3f5e1d9c2a
fog,nightly,20261119,8b3f5e1d9c2a
fog,nightly,20261119104512,unknown
""")
FORMAT = Format(
    "revisions", "revisions of builds: channel, build_id, revision", recognizes, lines, (RevisionRow,), EXAMPLE
)
