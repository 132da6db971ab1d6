"""Requests of a web server, however a log tells of them, as the events that the rules make of them.

A view is what the Django middleware takes for one: 2xx is a page or a probe that was found, 404 a probe that was not.
Any other answer is left out.
"""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import unquote

import msgspec

from usage_service.imports.lines import JsonObject, Line, Options
from usage_service.imports.refusals import Refusal
from usage_service.imports.rules import NO_FIELDS, EventType, Fields, Matched, read_rules
from usage_service.page_addresses import host_of, page_of

FILTERS = ("ping_type", "os", "aggregation_level")
MOST_TOLD = 100  # characters of a path that no rule matches
MOST_KEPT = 10_000  # answers to what was asked
MOST_KEPT_CHARACTERS = 300  # of a target
NO_PRODUCT = Refusal("product", "is said by neither the file nor the rules; say it with --product")
PROBE_PAGE: tuple[EventType, ...] = ("page_viewed", "probe_viewed")


class WebRequest(NamedTuple):
    """A request as a log tells of it."""

    occurred_at: str
    target: str  # its path and query string, or a whole address
    status: int
    method: str = "GET"
    visitor: str | None = None
    bot: bool = False
    referrer: str | None = None  # an address
    host: str | None = None  # that was asked, where the log says it
    says: Fields = NO_FIELDS  # what the log itself says of the view
    is_page: bool = False  # it is a page even if no rule knows it


class _Asked(NamedTuple):
    """What was asked for: events without their time and their visitor, or why they are none."""

    events: tuple[JsonObject, ...] = ()
    refusal: Refusal | None = None
    left_out: str | None = None
    unmatched: str | None = None
    host: str | None = None


NOTHING_FOUND = _Asked(left_out="status 404")


class RequestReader:
    """Makes lines of requests, as the rules and the options of an import say."""

    def __init__(self, options: Options) -> None:
        """Read the rules. Raise UnreadableFileError where they are wrong."""
        self._rules = read_rules(options.rules)
        self._product = options.product
        self._channel = options.channel
        self._kept = lru_cache(MOST_KEPT)(self._ask)

    def line(self, number: int, request: WebRequest) -> Line:
        """Return the line of a request: its events, or why there is nothing to record."""
        occurred_at, target, status, method, visitor, bot, referrer, host, says, is_page = request
        ask = self._kept if len(target) <= MOST_KEPT_CHARACTERS else self._ask
        asked = ask(method, target, status, says, is_page)
        if not asked.events:
            return Line(number, [], asked.refusal, asked.left_out, asked.unmatched)
        who = {"occurred_at": occurred_at, "visitor": visitor} if visitor else {"occurred_at": occurred_at}
        came_from = self._referrer(referrer, asked.host or host) if referrer else None
        events = [event | who for event in asked.events]
        if bot or came_from:
            for event in events:
                event["data"] = _told_of(event, bot, came_from)
        return Line(number, events)

    def _ask(self, method: str, target: str, status: int, says: Fields, is_page: bool) -> _Asked:
        is_found = 200 <= status < 300
        if not is_found and status != HTTPStatus.NOT_FOUND:
            return _Asked(left_out=f"status {status}")
        path, query, host = split_target(target)
        if not path:
            return _Asked(left_out="asks for no path")
        matched = self._match(method, path, query, status, says)
        if matched is None and is_page:
            matched = Matched(("page_viewed",), says)
        if matched is None:
            told = path[:MOST_TOLD] if method == "GET" else f"{method[:MOST_TOLD]} {path[:MOST_TOLD]}"
            return _Asked(left_out="no rule matches", unmatched=told) if is_found else NOTHING_FOUND
        if matched.left_out:
            return _Asked(left_out=matched.left_out)
        return self._events(path, matched, is_found)._replace(host=host)

    def _match(self, method: str, path: str, query: str, status: int, says: Fields) -> Matched | None:
        """Return what a request is: what the log says itself goes before what a rule says."""
        if says.probe:
            return Matched(PROBE_PAGE, says)
        matched = self._rules.match(method, path, query, status)
        if matched is None or says == NO_FIELDS:
            return matched
        said = {name: value for name, value in msgspec.structs.asdict(says).items() if value}
        return matched._replace(fields=msgspec.structs.replace(matched.fields, **said))

    def _events(self, path: str, matched: Matched, is_found: bool) -> _Asked:
        fields = matched.fields
        product, channel = fields.product or self._product, fields.channel or self._channel
        whose: JsonObject = {"product": product} if product else {}
        events: list[JsonObject] = []
        for kind in matched.events:
            if kind == "probe_viewed":
                if not product:
                    return _Asked(refusal=NO_PRODUCT)
                filters = {name: value for name in FILTERS if (value := getattr(fields, name))}
                view = {"type": kind, "probe": fields.probe, "data": {"found": is_found} | filters}
                events.append(whose | view | ({"channel": channel} if channel else {}))
            elif is_found:
                events.append(whose | {"type": kind, "data": {"page": page_of(path)}})
        return _Asked(tuple(events)) if events else NOTHING_FOUND

    def _referrer(self, address: str, own: str | None) -> str | None:
        """Return the host that a visitor came from, if it is another one."""
        host = host_of(address)
        return None if not host or host == own or host.lower() in self._rules.hosts else host


def _told_of(event: JsonObject, bot: bool, came_from: str | None) -> JsonObject:
    """Return the data of an event with who asked; what it was made of stays as it is."""
    data: JsonObject = event["data"]
    if came_from and event["type"] == "page_viewed":
        data = data | {"referrer": came_from}
    return data | {"bot": True} if bot else data


def split_target(target: str) -> tuple[str, str, str | None]:
    """Return the path of a request, unquoted as Django does it, its query string, and its host if it names one.

    The path is empty where there is none.
    """
    host = None
    if not target.startswith("/"):
        if not target.lower().startswith(("http://", "https://")):
            return "", "", None
        host = host_of(target)
        target = f"/{target.partition('//')[2].partition('/')[2]}"
    path, _, query = target.partition("#")[0].partition("?")
    if "%" in path:
        try:
            path = unquote(path, errors="strict")
        except UnicodeDecodeError:
            return path, query, host
    return path, query, host
