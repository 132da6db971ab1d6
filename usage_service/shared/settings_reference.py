"""Reference of settings, made from the structs that read them (docs/settings.md)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from usage_service.shared.schema_words import JsonObject, schema_words


def settings_reference(programs: Mapping[str, type[msgspec.Struct]]) -> str:
    """Write a section for each program in Markdown: name, type and range, default and meaning of its settings."""
    return "\n".join(f"## {program}\n\n{_table(kind)}" for program, kind in programs.items())


def _table(kind: type[msgspec.Struct]) -> str:
    schema = msgspec.json.schema(kind)["$defs"][kind.__name__]
    rows = [_row(name, spec, name in schema["required"]) for name, spec in schema["properties"].items()]
    return "\n".join(["| setting | takes | default | meaning |", "|---|---|---|---|", *rows, ""])


def _row(name: str, spec: JsonObject, required: bool) -> str:
    [taken] = [option for option in spec.get("anyOf", [spec]) if option != {"type": "null"}]
    default = "needed" if required else _default(spec["default"])
    return f"| `{name}` | {schema_words(taken)} | {default} | {spec.get('description') or taken['description']} |"


def _default(value: object) -> str:
    return "" if value in (None, "") else f"`{str(value).lower() if isinstance(value, bool) else value}`"
