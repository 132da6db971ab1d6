"""Files of Mozilla's product-details (https://product-details.mozilla.org/1.0/) as events of releases.

Two of its forms are read: a history, from version to date (firefox_history_major_releases.json and the like), and the
current versions of Nightly, Developer Edition and Firefox with their dates (firefox_versions.json).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from usage_service.imports.lines import Format, JsonObject, Line, Options
from usage_service.imports.refusals import UnreadableFileError
from usage_service.imports.source import Source

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


DEFAULT_PRODUCT = "fog"


def recognizes(head: bytes, _name: str) -> bool:
    """Return whether a file that begins with these bytes is of product-details."""
    return bool(HISTORY.match(head) or CURRENT.match(head))


def lines(source: Source, options: Options) -> Iterator[Line]:
    """Read a release for each channel and major version: the first day of any of its versions, at midnight UTC."""
    given = source.document()
    if not isinstance(given, dict):
        raise UnreadableFileError(f"{source.name}: must be a JSON object")
    first: dict[tuple[str, int], str] = {}
    found = (_current if CURRENT.match(source.head) else _history)(given, options.channel)
    for channel, version, day in found:
        if (began := MAJOR.match(version)) and DAY.fullmatch(day):
            key = channel, int(began[1])
            first[key] = min(first.get(key, day), day)
    if not first:
        raise UnreadableFileError(f'{source.name}: names no version with its day, such as {{"100.0": "2022-05-03"}}')
    for number, ((channel, major), day) in enumerate(sorted(first.items()), 1):
        yield Line(number, [_event(options.product or DEFAULT_PRODUCT, channel, major, day)])


def _history(given: JsonObject, channel: str | None) -> list[tuple[str, str, str]]:
    return [(channel or "release", version, str(day)) for version, day in given.items()]


def _current(given: JsonObject, only: str | None) -> list[tuple[str, str, str]]:
    return [
        (channel, str(given.get(version)), str(given.get(day)))
        for channel, (version, day) in CURRENT_KEYS.items()
        if only in (None, channel)
    ]


def _event(product: str, channel: str, version: int, day: str) -> JsonObject:
    return {
        "type": "release_published",
        "occurred_at": f"{day}T00:00:00+00:00",
        "product": product,
        "channel": channel,
        "data": {"version": version},
    }


FORMAT = Format("product-details", "releases of Mozilla's product-details", recognizes, lines)
