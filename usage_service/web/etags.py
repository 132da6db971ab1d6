"""Entity tags: digests of what an answer depends on, so that a 304 needs no answer to be made."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import msgspec

from usage_service.shared.schema import schema_text

PACKAGE = Path(__file__).parents[1]
TAG = re.compile(r'(?:W/)?("[^"]*")')


def entity_tag(*follows_from: object) -> str:
    """Return a strong entity tag of these values and of the code, because other code may answer otherwise."""
    digest = hashlib.blake2b(msgspec.json.encode(follows_from), key=_code(), digest_size=16)
    return f'"{digest.hexdigest()}"'


def is_matched(if_none_match: Iterable[str], tag: str) -> bool:
    """Return whether If-None-Match (RFC 9110 13.1.2: `*` or a list, compared weakly) contains the tag."""
    given = ", ".join(if_none_match)
    return given.strip() == "*" or tag in TAG.findall(given)


def code_files(package: Path = PACKAGE) -> list[Path]:
    """Return every file of the package in any folder, by name; compiled modules are left out."""
    return sorted(path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc")


def code_digest(package: Path, schema: str) -> bytes:
    """Return the digest, 32 bytes, of the package's files, their names, and the text of the database's schema."""
    digest = hashlib.blake2b(schema.encode(), digest_size=32)
    for path in code_files(package):
        content = path.read_bytes()
        digest.update(f"\0{path.relative_to(package)}\0{len(content)}\0".encode() + content)
    return digest.digest()


@cache
def _code() -> bytes:
    return code_digest(PACKAGE, schema_text())
