"""Glean's metrics.yaml: category, name, definition; of which app it is, `--product` says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial

from usage_service.imports.lines import Example, Format, JsonObject, Line, Options
from usage_service.imports.refusals import Refusal, UnreadableFileError, checked
from usage_service.imports.registrations import Definition, asked_product, entry_lines, registrations
from usage_service.imports.source import Source
from usage_service.imports.yaml_items import read_items

SCHEMA = b"moz://mozilla.org/schemas/glean/"
MOST_CHARACTERS = 8 << 20
NOT_CATEGORIES = frozenset({"$schema", "$tags", "no_lint"})


def recognizes(head: bytes, _name: str) -> bool:
    """Return whether a file that begins so declares a schema of Glean."""
    return SCHEMA in head and not head.lstrip().startswith((b"{", b"["))


def lines(source: Source, options: Options) -> Iterator[Line]:
    """Read the metrics, each at the line of its name."""
    text = _text(source)
    if SCHEMA + b"metrics/" not in source.head:
        raise UnreadableFileError(
            f"{source.name}: defines no metrics; its $schema must be {SCHEMA.decode()}metrics/..."
        )
    product = asked_product(options, source.name)
    for item in read_items(text):
        if item.path[:1] and item.path[0] in NOT_CATEGORIES:
            continue
        metric = ".".join(item.path)
        if item.fault or len(item.path) < 2:
            yield Line(item.line, [], Refusal(None, item.fault or "must hold metrics by their names", metric))
        else:
            yield from entry_lines(item.line, metric, partial(_events, product, metric, item.value, options.as_of))


def _events(product: str, metric: str, value: object, at: datetime | None) -> list[JsonObject]:
    definition = checked(value, Definition, strict=False)  # every value of YAML is read as text
    return registrations(product, metric, definition, at)


def _text(source: Source) -> str:
    found: list[str] = []
    size = 0
    for line in source.lines():
        if line.text is None:
            raise UnreadableFileError(f"{source.name}: line {line.number} {line.refusal}")
        size += len(line.text) + 1
        if size > MOST_CHARACTERS:
            raise UnreadableFileError(f"{source.name}: holds more than {MOST_CHARACTERS >> 20} Mi characters")
        found.append(line.text)
    return "\n".join(found)


EXAMPLE = Example(
    """\
$schema: moz://mozilla.org/schemas/glean/metrics/2-0-0

javascript.gc:
  total_time:
    type: timing_distribution
    notification_emails: [gc@example.org]
    expires: never
  reason:
    expires: never
""",
    "metrics.yaml",
    "fog",
)
FORMAT = Format(
    "metrics-yaml", "Glean's definitions of metrics (metrics.yaml)", recognizes, lines, (Definition,), EXAMPLE
)
