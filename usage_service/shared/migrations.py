"""Migrations that lead an older schema to that of `schema.sql`, one file a version."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

FIRST_VERSION = 1
_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
_WORKS_WITH = re.compile(r"^-- works with: (\d+)\n-- \S")


class Migration(NamedTuple):
    """A migration of the schema from `version` - 1 to `version`, with which programs of `works_with` and later work."""

    version: int
    works_with: int
    name: str
    text: str


class MigrationFileError(ValueError):
    """A migration's file has a wrong name or first line; the message says which are right."""


def load_migrations(directory: Traversable | None = None) -> list[Migration]:
    """Read the migrations of the installed package or of `directory`, in order. Raise MigrationFileError."""
    place = files("usage_service") / "migrations" if directory is None else directory
    found = sorted((file for file in place.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    migrations = [_read(file) for file in found]
    for expected, migration in enumerate(migrations, FIRST_VERSION + 1):
        if migration.version != expected:
            raise MigrationFileError(f"{migration.name}: the next is number {expected}")
    return migrations


def _read(file: Traversable) -> Migration:
    text = file.read_text("utf-8")
    name, works_with = _NAME.match(file.name), _WORKS_WITH.match(text)
    if name is None:
        raise MigrationFileError(f"{file.name}: a migration is named like 0002_what_it_does.sql")
    if works_with is None or not FIRST_VERSION <= int(works_with[1]) <= int(name[1]):
        raise MigrationFileError(
            f"{file.name}: begin with `-- works with: N`, the oldest version whose programs go on working, and why"
        )
    return Migration(int(name[1]), int(works_with[1]), file.name, text)
