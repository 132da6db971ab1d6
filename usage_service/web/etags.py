"""Entity tags: what an answer follows from, not what it is, so that 304 needs no answer to be made."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import msgspec

PACKAGE = Path(__file__).parents[1]
TAG = re.compile(r'(?:W/)?("[^"]*")')


def entity_tag(*follows_from: object) -> str:
    """A strong tag of these, and of the code: other code may answer otherwise."""
    digest = hashlib.blake2b(msgspec.json.encode(follows_from), key=_code(), digest_size=16)
    return f'"{digest.hexdigest()}"'


def is_matched(if_none_match: Iterable[str], tag: str) -> bool:
    """Whether the headers' tags (RFC 9110 13.1.2: `*` or a list, compared weakly) have this one."""
    given = ", ".join(if_none_match)
    return given.strip() == "*" or tag in TAG.findall(given)


@cache
def _code() -> bytes:
    digest = hashlib.blake2b(digest_size=32)
    for pattern in ("*.py", "sql/*.sql", "web/*.py"):
        for path in sorted(PACKAGE.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.digest()
