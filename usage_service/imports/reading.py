"""Lines of a file with the ids of their events, which come from content: reading a file again gives the same events."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from uuid import UUID, uuid5

from usage_service.imports.formats import format_named, format_of
from usage_service.imports.lines import Line, Options
from usage_service.imports.source import Source

IMPORTED = UUID("6d0a3b0f-5a0c-4b0e-9d7c-3f1e0c8b7a51")  # the namespace of these ids


def read_lines(source: Source, options: Options, format_name: str | None = None) -> Iterator[Line]:
    """Read the lines of a file of the format that is named, else of that which its content tells."""
    if not source.head.strip():
        return iter(())
    chosen = format_named(format_name) if format_name else format_of(source.head, source.name)
    return _with_ids(chosen.lines(source, options), options)


def _with_ids(lines: Iterable[Line], options: Options) -> Iterator[Line]:
    seen: Counter[bytes] = Counter()
    as_of = (options.as_of or datetime.now(UTC)).isoformat()
    for line in lines:
        content = json.dumps([options.host, line.events], sort_keys=True).encode()
        digest = hashlib.blake2b(content, digest_size=16).digest()
        repeat = seen[digest]
        seen[digest] += 1
        for index, event in enumerate(line.events):
            event.setdefault("event_id", str(uuid5(IMPORTED, f"{digest.hex()} {repeat} {index}")))
            event.setdefault("occurred_at", as_of)
        yield line
