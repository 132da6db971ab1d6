"""Reference of the event types, made from the types: as JSON Schema, and as the page `docs/events.md`."""

from __future__ import annotations

from inspect import cleandoc

import msgspec

from usage_service.events import EVENT_TYPES, OWN_TYPES, ExtensionEvent
from usage_service.shared.schema_words import JsonObject, schema_words

PAGE_HEAD = """# Event types

Made from `usage_service/events.py` by `usage-service reference`; a test keeps it true.

Every event has `event_id` (a UUID of the sender's), `type`, and `occurred_at` (RFC 3339 with a zone). `visitor`,
`product`, `channel` and `probe` are optional but where a type asks for them. The raw `visitor` is never stored.
An id of version 8 is taken to be made from content, the visitor's too: a keyed hash of it is stored, and the answer has
the id that was sent.

What the app reports of people is stored without what may say who they are; the answer says where (`masked`):

- Of addresses of pages (`page`, `referrer`, `url`) query, fragment and user info are dropped. Parameters that
  `USAGE_SERVICE_KEPT_PARAMETERS` names are kept.
- What looks like an e-mail address is `***`, in any text of `data`, in names of fields of `x_...` too. Names that would
  be alike then are numbered (`***`, `***2`), so that no value is lost.

Whether an event is a duplicate is decided by what was sent, so it stays one when the setting changes.
"""


def event_schemas() -> tuple[JsonObject, JsonObject]:
    """Return JSON Schema 2020-12 of every type by its name on the wire, and of the components they refer to."""
    kinds = [*EVENT_TYPES.values(), ExtensionEvent]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return dict(zip([*EVENT_TYPES, "x_..."], schemas, strict=True)), dict(components)


def events_page() -> str:
    """Write the reference page in Markdown."""
    _, components = event_schemas()
    sections = [_section(name, kind.__name__, kind.schema_version, components) for name, kind in EVENT_TYPES.items()]
    sections.append(_section("x_...", "ExtensionEvent", ExtensionEvent.schema_version, components))
    own = ", ".join(f"`{name}`" for name in sorted(OWN_TYPES))
    return "\n".join([PAGE_HEAD, *sections, "## Written by the service itself", "", own + ".", ""])


def _section(name: str, component: str, version: int, components: JsonObject) -> str:
    schema = components[component]
    required = [field for field in schema["required"] if field in ("visitor", "product", "channel", "probe")]
    lines = [f"## {name}", "", cleandoc(schema["description"]), "", f"Schema version {version}."]
    if required:
        lines[-1] += f" Needs {', '.join(f'`{field}`' for field in required)}."
    data = components.get(schema["properties"]["data"].get("$ref", "").rpartition("/")[2], {})
    if data.get("properties"):
        lines += ["", "| field of `data` | | |", "|---|---|---|"]
        lines += [_row(field, spec, field in data["required"]) for field, spec in data["properties"].items()]
    return "\n".join([*lines, ""])


def _row(field: str, spec: JsonObject, required: bool) -> str:
    return f"| `{field}` | {'required' if required else 'optional'} | {schema_words(spec)} |"
