"""The catalogue of probes as CSV: product, probe, type and ping."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from usage_service.events import NO_NUL, Name, ProbeName, Product
from usage_service.imports.lines import Example, Format, Line, Options
from usage_service.imports.recognition import columns
from usage_service.imports.refusals import Refusal, checked, refusal_of
from usage_service.imports.registrations import registration
from usage_service.imports.source import Source

NEEDED = frozenset({"product", "probe", "type"})
DEFAULT_PING = "metrics"


class CatalogueRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A probe and a ping that it is sent in; an empty `ping` is metrics."""

    product: Product
    probe: ProbeName
    type: Name
    ping: Annotated[str, Meta(max_length=100, pattern=NO_NUL)] = ""


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
        data = {"type": row.type, "ping": row.ping or DEFAULT_PING}
        return Line(number, [registration(row.product, row.probe, data, options.as_of)])
    except msgspec.ValidationError as error:
        return Line(number, [], refusal_of(error, CatalogueRow.__struct_fields__))


EXAMPLE = Example("""\
product,probe,type,ping
fog,gc_ms,timing_distribution,metrics
fog,gc_ms
""")
FORMAT = Format(
    "catalogue-csv", "a catalogue as CSV: product, probe, type, ping", recognizes, lines, (CatalogueRow,), EXAMPLE
)
