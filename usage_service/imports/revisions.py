"""Revisions of builds, a row each: channel, id and revision of a build, and its product where the row names one."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from usage_service.events import Channel, Product, RevisionPublishedData

FIELDS = frozenset({"channel", "build_id", "revision"})
HOUR = "%Y%m%d%H"  # how a build id begins


class RevisionRow(RevisionPublishedData, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Row of a file of revisions."""

    channel: Channel
    product: Product


def revision_event(row: dict[str, object], product: str) -> dict[str, object]:
    """Return the event of a row, at the hour of its build; it is of `product` unless the row names another.

    Raise msgspec.ValidationError with the field of the row that is wrong.
    """
    read = msgspec.convert(row if row.get("product") else row | {"product": product}, RevisionRow)
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
