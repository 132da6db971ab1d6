"""Files of Mozilla's product-details (https://product-details.mozilla.org/1.0/) as events of releases.

Two of its forms are read: a history, from version to date (firefox_history_major_releases.json and the like), and the
current versions of Nightly, Developer Edition and Firefox with their dates (firefox_versions.json).
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

MOST_BYTES = 1 << 22
HISTORY = re.compile(rb'\s*\{\s*"[0-9]+\.[^"\n]*"\s*:\s*"[0-9]{4}-[0-9]{2}-[0-9]{2}"')
CURRENT = re.compile(rb'\s*\{\s*"[A-Z_]+"\s*:\s*"')
# The key of a channel's version and the key of the day since when it has been.
CURRENT_KEYS = {
    "nightly": ("FIREFOX_NIGHTLY", "LAST_MERGE_DATE"),
    "beta": ("FIREFOX_DEVEDITION", "LAST_MERGE_DATE"),
    "release": ("LATEST_FIREFOX_VERSION", "LAST_RELEASE_DATE"),
}
MAJOR = re.compile(r"([0-9]+)(?![0-9])")
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class ReleasesOf(NamedTuple):
    """The product and channel of releases; without a channel, `release`, or all channels that the file names."""

    product: str
    channel: str | None


FIREFOX = ReleasesOf("fog", None)


def is_product_details(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is of product-details."""
    return bool(HISTORY.match(head) or CURRENT.match(head))


def release_events(text: str, of: ReleasesOf) -> list[dict[str, Any]]:
    """Return an event for each channel and major version: the first day of any of its versions, at midnight UTC.

    Raise ValueError when the text is not JSON, or names no version with a day.
    """
    given: dict[str, object] = json.loads(text)
    first: dict[tuple[str, int], str] = {}
    for channel, version, day in _current(given, of) if CURRENT.match(text.encode()) else _history(given, of):
        if (major := MAJOR.match(version)) and DAY.fullmatch(day):
            key = channel, int(major[1])
            first[key] = min(first.get(key, day), day)
    if not first:
        raise ValueError('names no version with its day, such as {"100.0": "2022-05-03"}')
    return [_event(of.product, channel, version, day) for (channel, version), day in sorted(first.items())]


def _history(given: dict[str, object], of: ReleasesOf) -> list[tuple[str, str, str]]:
    return [(of.channel or "release", version, str(day)) for version, day in given.items()]


def _current(given: dict[str, object], of: ReleasesOf) -> list[tuple[str, str, str]]:
    return [
        (channel, str(given.get(version)), str(given.get(day)))
        for channel, (version, day) in CURRENT_KEYS.items()
        if of.channel in (None, channel)
    ]


def _event(product: str, channel: str, version: int, day: str) -> dict[str, Any]:
    return {
        "type": "release_published",
        "occurred_at": f"{day}T00:00:00+00:00",
        "product": product,
        "channel": channel,
        "data": {"version": version},
    }
