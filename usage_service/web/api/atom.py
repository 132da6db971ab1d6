"""Atom (RFC 4287): news as a feed, whose links lead from wherever it was read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID
from xml.etree.ElementTree import Element, SubElement, tostring

NAMESPACE = "http://www.w3.org/2005/Atom"
ATOM = "application/atom+xml"
ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # characters that XML 1.0 cannot have


class Entry(NamedTuple):
    """Entry of a feed."""

    entry_id: UUID
    title: str
    updated: datetime
    link: str
    category: str
    summary: str


class Feed(NamedTuple):
    """Feed, with links by their relation (RFC 5005)."""

    feed_id: UUID
    title: str
    updated: datetime
    links: Mapping[str, str]
    entries: Iterable[Entry]


def atom(feed: Feed) -> bytes:
    """Return a feed as XML; what XML cannot have is a replacement character."""
    root = Element("feed", {"xmlns": NAMESPACE, "xml:lang": "en"})
    _add(root, "id", feed.feed_id.urn)
    _add(root, "title", feed.title)
    _add(root, "updated", _instant(feed.updated))
    _add(SubElement(root, "author"), "name", "Usage service")
    for relation, place in feed.links.items():
        kind = "text/html" if relation == "alternate" else ATOM
        SubElement(root, "link", {"rel": relation, "href": place, "type": kind})
    for entry in feed.entries:
        _add_entry(root, entry)
    made: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return made


def _add_entry(root: Element, entry: Entry) -> None:
    item = SubElement(root, "entry")
    _add(item, "id", entry.entry_id.urn)
    _add(item, "title", entry.title)
    _add(item, "updated", _instant(entry.updated))
    SubElement(item, "link", {"rel": "alternate", "href": entry.link, "type": "text/html"})
    SubElement(item, "category", {"term": entry.category})
    _add(item, "summary", entry.summary)


def _add(parent: Element, name: str, text: str) -> None:
    SubElement(parent, name).text = ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", text)


def _instant(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
