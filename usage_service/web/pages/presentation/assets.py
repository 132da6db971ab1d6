"""What the pages load besides HTML: named by what is in it, so that a browser may keep it for good."""

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
    """Where the page loads VEGA or a file of `static` from."""
    return f"/assets/{_digest(name)}/{name}"


def is_current(digest: str, name: str) -> bool:
    """Whether there is such a file, and the digest is of what is in it now."""
    return name in _names() and digest == _digest(name)


@cache
def asset(name: str) -> bytes:
    """A file of `static`."""
    return (STATIC / name).read_bytes()


def type_of(name: str) -> str:
    """The media type of a file."""
    return TYPES[Path(name).suffix]


@cache
def _names() -> frozenset[str]:
    return frozenset({VEGA, *(path.name for path in STATIC.iterdir())})


@cache
def _digest(name: str) -> str:
    named = vega_version().encode() if name == VEGA else asset(name)
    return hashlib.blake2b(named, digest_size=8).hexdigest()
