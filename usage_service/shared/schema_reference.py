"""Reference of the data model, made from `schema.sql` (docs/schema.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from usage_service.shared.schema import schema_text

HEAD = """# The schema

Made from `schema.sql` by `usage-service reference schema`; a test keeps it true. Analysts read it as the role
`usage_reader`: nobody but the functions below writes, and no role may change the log.

```text
"""
OBJECT = re.compile(
    r"(?P<about>(?:^--(?!-).*\n)*)^CREATE (?P<kind>TABLE|VIEW|FUNCTION|TYPE) (?P<name>\w+)"
    r"(?P<rest>(?: \(\n(?:.+\n)*?\))?)",
    re.MULTILINE,
)
ENDS = r"(?= +(?:NOT|PRIMARY|DEFAULT|REFERENCES|UNIQUE|GENERATED|CHECK)\b|,|$| *--)"
COLUMN = re.compile(rf"^ {{4}}([a-z]\w*) +([a-z]\w*(?: \w+)*?(?:\[\])?){ENDS}(.*)$", re.MULTILINE)


def schema_reference() -> str:
    """Write the page in Markdown: the model in a few lines, then each part with its tables, views and functions."""
    head, *parts = re.split(r"^-{20,}\n", schema_text(), flags=re.MULTILINE)
    model = re.match(r"(?:--.*\n)+", head)
    lines = re.sub(r"^-- ?", "", model[0] if model else "", flags=re.MULTILINE)
    return "\n".join([f"{HEAD}{lines}```", "", *_part("-- Versions and time\n" + head[len(lines) :]), *_parts(parts)])


def _parts(parts: list[str]) -> Iterator[str]:
    for part in parts:
        yield from _part(part)


def _part(text: str) -> Iterator[str]:
    """Write a part: its title, then its tables with their columns, then its functions."""
    title = text.partition("\n")[0].removeprefix("-- ").partition(":")[0].partition(". ")[0]
    found = list(OBJECT.finditer(text))
    if not found:
        return
    yield from (f"## {title}", "")
    for one in found:
        if one["kind"] != "FUNCTION":
            yield from (f"### {one['name']}", "", _prose(one["about"]), "", *_columns(one["rest"]))
    rows = [f"| `{one['name']}` | {_prose(one['about'])} |" for one in found if one["kind"] == "FUNCTION"]
    if rows:
        heads = ("| function | what it does |", "|---|---|")
        yield from (f"### Functions of {title[0].lower()}{title[1:]}", "", *heads, *rows, "")


def _prose(comment: str) -> str:
    """Return a comment as a line of text that a table can hold."""
    words = " ".join(re.sub(r"^--", "", line).strip() for line in comment.splitlines())
    return re.sub(r"([|<>*_])", r"\\\1", words)


def _columns(body: str) -> Iterator[str]:
    rows = [f"| `{name}` | {kind} | {_prose(rest.partition('--')[2])} |" for name, kind, rest in COLUMN.findall(body)]
    if rows:
        yield from ("| column | type | |", "|---|---|---|", *rows, "")
