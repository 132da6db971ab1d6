"""Reference of the formats of files to import, made from their types and examples: the page `docs/imports.md`."""

from __future__ import annotations

import inspect
import io
from collections.abc import Iterator
from typing import cast

import msgspec

from usage_service.imports.formats import FORMATS
from usage_service.imports.lines import Example, Format, Line, Options
from usage_service.imports.source import Source
from usage_service.shared.schema_words import JsonObject, schema_words

PAGE_HEAD = """# Files to import

Made from `usage_service/imports/formats/` by `usage-service reference imports`; a test keeps it true.

`usage-service import FILE...` records what files tell. The content of a file tells its format; `--format NAME` says it
where you know better. Fields that are in none of the tables below are refused by name, unless the table's text says
otherwise. What a format does not say (a product, a channel) has to be given as an option; an option never overrides
what the file says.

Events are checked as those that are posted are: their own limits are in [events.md](events.md).
"""


def imports_page() -> str:
    """Write the reference page in Markdown."""
    contents = [f"- [`{one.name}`](#{one.name}): {one.title}" for one in FORMATS]
    return "\n".join([PAGE_HEAD, *contents, "", *("\n".join(_section(one)) for one in FORMATS)])


def _section(one: Format) -> Iterator[str]:
    yield from (f"## {one.name}", "", f"{one.title[:1].upper()}{one.title[1:]}.", "")
    _, components = msgspec.json.schema_components(one.fields, ref_template="#/components/schemas/{name}")
    for kind in one.fields:
        yield from _fields(kind.__name__, components[kind.__name__])
    if one.example:
        yield from _example(one, one.example)


def _example(one: Format, example: Example) -> Iterator[str]:
    option = f" --product {example.product}" if example.product else ""
    yield from (f"An example, `usage-service import {example.name}{option}`:", "")
    yield from ("```text", *example.text.splitlines(), "```", "")
    yield from ("| line or entry | what becomes of it |", "|---|---|")
    yield from (f"| {line.number} | {_outcome(line)} |" for line in example_lines(one, example))
    yield ""


def _fields(name: str, schema: JsonObject) -> Iterator[str]:
    yield from (f"`{name}`: {inspect.cleandoc(schema.get('description', ''))}", "")
    yield from ("| field | | | |", "|---|---|---|---|")
    required = schema.get("required", [])
    for field, spec in schema.get("properties", {}).items():
        needed = "required" if field in required else "optional"
        yield f"| `{field}` | {needed} | {_cell(schema_words(spec))} | {_cell(spec.get('description', ''))} |"
    yield ""


def example_lines(one: Format, example: Example) -> list[Line]:
    """Read the example of a format."""
    raw = cast(io.BufferedReader, io.BufferedReader(io.BytesIO(example.text.encode())))
    return list(one.lines(Source(raw, example.name, None), Options(product=example.product)))


def _outcome(line: Line) -> str:
    if line.refusal:
        return f"refused: {_cell(str(line.refusal))}"
    if line.left_out:
        return f"nothing: {_cell(line.left_out)}"
    return "<br>".join(f"`{_cell(msgspec.json.encode(event).decode())}`" for event in line.events)


def _cell(text: str) -> str:
    # Neither a column, nor a line, nor a link.
    return text.replace("|", "\\|").replace("\n", " ").replace("](", "]\\(")
