"""The warehouse's SQL: files with `{places}`, which only names and expressions of the sample's own go into."""

from __future__ import annotations

from importlib.resources import files


def filled(name: str, **parts: str) -> str:
    """The text of `<name>.sql` with its places filled."""
    text = files(__package__).joinpath(f"{name}.sql").read_text("utf-8")
    for place, part in parts.items():
        text = text.replace(f"{{{place}}}", part)
    return text
