"""Access logs as Apache and nginx write them by default: common, combined, and both behind the name of a host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from usage_service.imports.lines import Example, Format, Line, Options
from usage_service.imports.log_fields import client_of, first_address, instant_of_log, request_of, said, without_port
from usage_service.imports.recognition import first_lines
from usage_service.imports.refusals import Refusal
from usage_service.imports.source import Source
from usage_service.imports.web_requests import RequestReader, WebRequest

QUOTED = r'"([^"\\]*(?:\\.[^"\\]*)*)"'
# Every part ends where the next begins: the time for a line grows with its length and nothing else. The name of a host
# comes first where it has a port, or where an address follows it; a user may have spaces in the name.
LINE = re.compile(
    r"(?:([^\s:]+:\d+) |(\S+) (?=[0-9A-Fa-f:.]*[:.][0-9A-Fa-f:.]* ))?"
    r"(\S+) (?:\S+ )?(?:\S+ )+?\[([^\]\s]{1,40} [+-]\d{4})\] "
    rf"{QUOTED} (\d{{3}}) (?:\d+|-)(?: {QUOTED} {QUOTED}(.*)| *)$"
)
FORWARDED = re.compile(r' "([^"]+)"')
ESCAPED = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|(.))")
CONTROLS = {"b": "\b", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
NOT_A_LINE = Refusal(None, 'must be a line such as 203.0.113.5 - - [10/Oct/2026:13:55:36 +0000] "GET / HTTP/1.1" 200 5')
NOT_A_TIME = Refusal("time", "must be a time with a zone, such as 10/Oct/2026:13:55:36 +0000")


class AccessLine(msgspec.Struct, frozen=True, kw_only=True):
    """Line of a log, its fields in this order. What follows the agent is passed over, but for `forwarded`."""

    host: Annotated[str | None, Meta(description="of the app, with its port or not: links from it are no referrers")]
    address: Annotated[str, Meta(description="makes the `visitor`, with the agent; it is not sent")]
    time: Annotated[str, Meta(description="between brackets, after the names of the user, which are not kept")]
    request: Annotated[str, Meta(description="`GET /path HTTP/1.1`, of which the rules make events; else left out")]
    status: Annotated[int, Meta(description="2xx: found, 404: a probe that was not found; others are left out")]
    bytes: Annotated[str, Meta(description="a number or `-`; not kept")]
    referrer: Annotated[str | None, Meta(description="its host is kept")] = None
    agent: Annotated[str | None, Meta(description="tells bots; `-` is one, and a log without agents tells of none")] = (
        None
    )
    forwarded: Annotated[
        str | None, Meta(description="`X-Forwarded-For`, last in nginx's format `main`: its first is the address")
    ] = None


def recognizes(head: bytes, _name: str) -> bool:
    """Return whether one of the first lines of a file is a line of an access log."""
    return any(LINE.match(line) for line in first_lines(head))


def lines(source: Source, options: Options) -> Iterator[Line]:
    """Read the requests, one a line."""
    reader = RequestReader(options)
    for number, text, refusal in source.lines():
        if text is None:
            yield Line(number, [], refusal)
        elif match := LINE.match(text):
            yield _line(number, match, reader)
        elif text and not text.isspace():
            yield Line(number, [], NOT_A_LINE)


def _line(number: int, match: re.Match[str], reader: RequestReader) -> Line:
    named, host, address, time, line, status, referrer, agent, rest = match.groups()
    instant = instant_of_log(time)
    if instant is None:
        return Line(number, [], NOT_A_TIME)
    request = request_of(_unescaped(line))
    if request is None:
        return Line(number, [], left_out="no request of HTTP")
    forwarded = FORWARDED.match(rest) if rest else None
    address = (forwarded and first_address(forwarded[1])) or address
    visitor, bot = client_of(address, agent and _unescaped(agent))
    method, target = request
    own = without_port(named or host) if named or host else None
    return reader.line(
        number, WebRequest(instant, target, int(status), method, visitor, bot, referrer and said(referrer), own)
    )


def _unescaped(text: str) -> str:
    r"""Return what a server escaped: Apache as C does and others as `\xhh`, nginx all of them as `\xHH`.

    Bytes become characters as Django's headers are decoded, so that an agent is the same agent there.
    """
    return ESCAPED.sub(_character, text) if "\\" in text else text


def _character(match: re.Match[str]) -> str:
    code, character = match.groups()
    return chr(int(code, 16)) if code else CONTROLS.get(character, character)


AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
EXAMPLE = Example(
    rf"""192.0.2.1 - - [23/Nov/2026:10:00:00 +0000] "GET /fog/probe/gc_ms/explore?os=Mac HTTP/1.1" 200 5 "-" "{AGENT}"
glam:443 2001:db8::1 - - [23/Nov/2026:11:00:00 +0100] "GET /fenix/probe/slow_ms/table HTTP/1.1" 404 - "-" "curl/8.5.0"
192.0.2.1 - - [23/Nov/2026:10:00:01 +0000] "GET / HTTP/1.1" 200 90 "https://bugzilla.mozilla.org/1" "{AGENT}"
192.0.2.1 - - [23/Nov/2026:10:00:01 +0000] "GET /build/app.js HTTP/1.1" 200 90 "-" "{AGENT}"
192.0.2.1 - - [23/Nov/2026:10:00:02 +0000] "GET /fog/probe/gc_ms/explore HTTP/1.1" 304 - "-" "{AGENT}"
192.0.2.9 - - [23/Nov/2026:10:00:03 +0000] "\x16\x03\x01\x02" 200 15 "-" "-"
192.0.2.9 - - [23/Nov/2026:10:00:04 +0000] "GET /about HTTP/1.1" 200 15
192.0.2.9 - - [31/Feb/2026:10:00:05 +0000] "GET / HTTP/1.1" 200 15
192.0.2.9 - - "GET / HTTP/1.1"
"""
)
FORMAT = Format(
    "access-log",
    "access logs of Apache and nginx, common or combined, behind the name of a host or not",
    recognizes,
    lines,
    (AccessLine,),
    EXAMPLE,
)
