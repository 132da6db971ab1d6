"""Files that the pages load: their URLs have a digest of the content, so that browsers may cache them for ever."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from usage_service.web.pages.presentation.vega import vega_version

STATIC = Path(__file__).parents[1] / "static"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
VEGA = "vega.js"


@cache
def asset_path(name: str) -> str:
    """Return the path of VEGA or of a file of `static`."""
    return f"/assets/{_digest(name)}/{name}"


def is_current(digest: str, name: str) -> bool:
    """Return whether the file exists, and the digest is that of its content."""
    return name in _names() and digest == _digest(name)


@cache
def asset(name: str) -> bytes:
    """Return the content of a file of `static`."""
    return (STATIC / name).read_bytes()


def type_of(name: str) -> str:
    """Return the media type of a file."""
    return TYPES[Path(name).suffix]


@cache
def _names() -> frozenset[str]:
    return frozenset({VEGA, *(path.name for path in STATIC.iterdir())})


@cache
def _digest(name: str) -> str:
    named = vega_version().encode() if name == VEGA else asset(name)
    return hashlib.blake2b(named, digest_size=8).hexdigest()
