"""The version of the running code, as Mozilla's Dockerflow has `/__version__`."""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import msgspec

VERSION_FILE = Path(sys.prefix) / "version.json"


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """The version of the running code; an image says from which commit and by which build it was made."""

    version: str
    source: str = ""
    commit: str = ""
    build: str = ""


@cache
def running_version() -> Version:
    """Return the version of `version.json`, which an image has beside its interpreter, else of the distribution."""
    if VERSION_FILE.exists():
        return msgspec.json.decode(VERSION_FILE.read_bytes(), type=Version)
    return Version(version=version("glam-usage"))
