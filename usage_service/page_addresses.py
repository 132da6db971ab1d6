"""Addresses of pages as requests bring them: whoever asks decides what is in them, and an event is to come of it.

The Django middleware and imports of access logs ask here, so that both tell the same of the same request.
"""

from __future__ import annotations

from usage_service.events import MOST_TEXT

MOST_HOST = 255


def page_of(path: str) -> str:
    """Return the path of a page as the log stores it: `%00` for NUL, and no longer than a text may be."""
    return path.replace("\0", "%00")[:MOST_TEXT] or "/"


def host_of(address: str) -> str | None:
    """Return the host of an address, without what signs in to it, None for a text that has none."""
    scheme, _, host = address.partition("//")
    for end in "/?#":
        if end in scheme:  # a path, which may have an address in its query
            return None
        host = host.partition(end)[0]
    host = host.rpartition("@")[2]
    return host if 0 < len(host) <= MOST_HOST and "\0" not in host else None
