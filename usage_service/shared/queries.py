"""SQL from `.sql` files: named statements, and templates whose `{{places}}` are filled with text that the code knows.

`-- name: why` starts a statement, the next name ends it.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_NAME = re.compile(r"^-- ([a-z_]+): .*$", re.MULTILINE)
_PLACE = re.compile(r"\{\{(\w+)\}\}")


class SqlFolder:
    """The `.sql` files of one folder, each read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def statement(self, file: str, name: str) -> str:
        """Return the statement `name` of `<file>.sql`; raises KeyError where there is none."""
        return load_queries(self._folder / f"{file}.sql")[name]

    def template(self, file: str, **parts: str) -> str:
        """Return the text of `<file>.sql` with each place filled; raises KeyError for a place without a part."""
        return _PLACE.sub(lambda place: parts[place[1]], _text(self._folder / f"{file}.sql"))


@cache
def load_queries(path: Path) -> Mapping[str, str]:
    """Return the statements of a file by name; raises ValueError where one has no name, or two have the same."""
    before, *parts = _NAME.split(path.read_text("utf-8"))
    if re.sub(r"--.*", "", before).strip():
        raise ValueError(f"{path}: a statement stands before the first name")
    names = parts[::2]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{path}: {', '.join(twice)} is the name of more than one statement")
    return dict(zip(names, (text.strip().rstrip(";") for text in parts[1::2]), strict=True))


@cache
def _text(path: Path) -> str:
    return path.read_text("utf-8").rstrip()
