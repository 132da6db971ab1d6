"""The catalogue of probes as CSV: product, probe, type and ping."""

from __future__ import annotations

from collections.abc import Iterator

from usage_service.imports.lines import Format, Line, Options
from usage_service.imports.recognition import columns
from usage_service.imports.source import Source

FIELDS = frozenset({"product", "probe", "type"})


def recognizes(head: bytes, _name: str) -> bool:
    """Return whether the columns of a table are those of a catalogue."""
    return columns(head) >= FIELDS


def lines(source: Source, _options: Options) -> Iterator[Line]:
    """Read the probes, one a row."""
    for number, row, refusal in source.rows():
        if row is None:
            yield Line(number, [], refusal)
            continue
        data = {"type": row["type"], "ping": row.get("ping") or "metrics"}
        event = {"type": "probe_registered", "product": row["product"], "probe": row["probe"], "data": data}
        yield Line(number, [event])


FORMAT = Format("catalogue-csv", "a catalogue as CSV: product, probe, type, ping", recognizes, lines)
