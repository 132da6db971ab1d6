"""Patterns of texts with the words for what each wants: a refusal tells these words in place of the pattern."""

from __future__ import annotations

import re

_REFUSED = re.compile(r"Expected `[^`]*` matching regex (?P<pattern>.*?)(?= - at `|\Z)", re.DOTALL)
_words: dict[str, str] = {}


def worded(pattern: str, words: str) -> str:
    """Return a pattern for a type, once its words are kept: they go on after "must be"."""
    _words[repr(pattern)] = words
    return pattern


PROBE_NAME = worded(r"^[A-Za-z0-9_.\-]{1,200}(?!\n)$", "letters, digits, _ . and -, 200 at most, such as gc_ms")


def in_words(message: str) -> str:
    """Return msgspec's message of a refused value; where a pattern refused it, it says in words what is wanted."""
    return _REFUSED.sub(_wanted, message)


def _wanted(refused: re.Match[str]) -> str:
    words = _words.get(refused["pattern"])
    return f"must be {words}" if words else refused[0]
