"""The catalogue of probes as CSV: product, probe, type, ping and units."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from usage_service.events import NO_NUL, MemoryUnit, Name, ProbeName, Product, TimeUnit
from usage_service.imports.lines import Example, Format, Line, Options
from usage_service.imports.recognition import columns
from usage_service.imports.refusals import Refusal, checked, refusal_of
from usage_service.imports.registrations import registration
from usage_service.imports.source import Source

NEEDED = frozenset({"product", "probe", "type"})
DEFAULT_PING = "metrics"


class CatalogueRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A probe and a ping that it is sent in; an empty `ping` is metrics. The units may be left out."""

    product: Product
    probe: ProbeName
    type: Name
    ping: Annotated[str, Meta(max_length=100, pattern=NO_NUL)] = ""
    time_unit: TimeUnit | Literal[""] = ""
    memory_unit: MemoryUnit | Literal[""] = ""
    unit: Annotated[str, Meta(max_length=100, pattern=NO_NUL)] = ""

    @property
    def units(self) -> dict[str, str]:
        """Return the units that are given."""
        given = {"time_unit": self.time_unit, "memory_unit": self.memory_unit, "unit": self.unit}
        return {name: value for name, value in given.items() if value}


def recognizes(head: bytes, _name: str) -> bool:
    """Return whether the columns of a table are those of a catalogue."""
    return columns(head) >= NEEDED


def lines(source: Source, options: Options) -> Iterator[Line]:
    """Read the probes, one a row."""
    for number, values, refusal in source.rows():
        yield Line(number, [], refusal) if values is None else _line(number, values, options)


def _line(number: int, values: dict[str, str], options: Options) -> Line:
    try:
        row = checked(values, CatalogueRow)
        if options.product not in (None, row.product):
            return Line(
                number, [], Refusal("product", f"is {row.product} and not {options.product}, as --product says")
            )
        data = {"type": row.type, "ping": row.ping or DEFAULT_PING} | row.units
        return Line(number, [registration(row.product, row.probe, data, options.as_of)])
    except msgspec.ValidationError as error:
        return Line(number, [], refusal_of(error, CatalogueRow))


EXAMPLE = Example("""\
product,probe,type,ping
fog,gc_ms,timing_distribution,metrics
fog,gc_ms
""")
FORMAT = Format(
    "catalogue-csv", "a catalogue as CSV: product, probe, type, ping", recognizes, lines, (CatalogueRow,), EXAMPLE
)
