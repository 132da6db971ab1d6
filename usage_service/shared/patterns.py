"""Words for what a value has to be: a refusal tells them in place of a pattern, a type of ours or a comparison."""

from __future__ import annotations

import re

_REFUSED = re.compile(r"Expected `[^`]*` matching regex (?P<pattern>.*?)(?= - at `|\Z)", re.DOTALL)
_NO_TIME = re.compile(
    "Expected `datetime[^`]*`(, got `[^`]*`| with a timezone component)|Invalid RFC3339 encoded datetime"
)
_BEYOND = re.compile("Expected `(?:int|float)[^`]*` (?P<how>[<>]=?) (?P<bound>[-+.0-9e]*[0-9])")
_TOO_LONG = re.compile("Expected `(?P<of>str|array|object)[^`]*` of length (?P<how>[<>]=?) (?P<bound>[0-9]+)")
A_TIME = "must be a time in RFC 3339 with a zone, such as 2026-11-23T10:00:00Z"
BOUNDS = {">=": "at least", "<=": "at most", ">": "above", "<": "below"}
_words: dict[str, str] = {}


def worded(pattern: str, words: str) -> str:
    """Return a pattern for a type, once its words are kept: they go on after "must be"."""
    _words[repr(pattern)] = words
    return pattern


PROBE_NAME = worded(r"^[A-Za-z0-9_.\-]{1,200}(?!\n)$", "letters, digits, _ . and -, 200 at most, such as gc_ms")


def in_words(message: str) -> str:
    """Return msgspec's message of a refused value, which says in words what is wanted, as far as there are any."""
    for refused, words in ((_REFUSED, _wanted), (_NO_TIME, _time), (_BEYOND, _bound), (_TOO_LONG, _length)):
        message = refused.sub(words, message)
    return message


def _time(_refused: re.Match[str]) -> str:
    return A_TIME


def _bound(refused: re.Match[str]) -> str:
    return f"must be {BOUNDS[refused['how']]} {refused['bound'].removesuffix('.0')}"


def _length(refused: re.Match[str]) -> str:
    many = "character" if refused["of"] == "str" else "item"
    return f"must have {BOUNDS[refused['how']]} {refused['bound']} {many}{'' if refused['bound'] == '1' else 's'}"


def _wanted(refused: re.Match[str]) -> str:
    words = _words.get(refused["pattern"])
    return f"must be {words}" if words else refused[0]
