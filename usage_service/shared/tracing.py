"""Spans of the work of this process, for OpenTelemetry; without a tracer each call costs next to nothing.

One trace leads from an HTTP request through the build that it asks for to the warehouse's jobs: the server leaves the
trace's context (W3C `traceparent`) with the build, and each attempt at it goes on from there. The tracer is that of
`otel`, which is loaded only where something is traced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum
from typing import Protocol, TypeVar

Attributes = Mapping[str, str | int]
Item = TypeVar("Item")


class SpanKind(Enum):
    """The kinds of spans that are made here, by their names in OpenTelemetry."""

    INTERNAL = "INTERNAL"
    SERVER = "SERVER"
    CONSUMER = "CONSUMER"


class Span(Protocol):
    """A span that is being made."""

    def set_attribute(self, key: str, value: str | int) -> None:
        """Set one of its attributes."""

    def set_attributes(self, attributes: Attributes) -> None:
        """Set several of its attributes."""


class Tracer(Protocol):
    """A maker of spans; its methods are described at the functions of the same names."""

    def span(
        self, name: str, attributes: Attributes | None, kind: SpanKind, carrier: Mapping[str, str] | None
    ) -> AbstractContextManager[Span]:
        """Make a span around a block."""

    def spanned(self, items: Iterable[Item], name: str, attributes: Attributes | None) -> Iterable[Item]:
        """Make a span around an iteration."""

    def fail(self, failed: Span, why: str) -> None:
        """Mark a span as failed."""

    def link(self, made: Span, traceparent: str) -> None:
        """Link a span to another."""

    def traceparent(self) -> str | None:
        """Return the context of the current span."""

    def span_ids(self) -> dict[str, str]:
        """Return the ids of the current trace and span."""


class _NoSpan:
    def set_attribute(self, key: str, value: str | int) -> None:
        """Drop the attribute."""

    def set_attributes(self, attributes: Attributes) -> None:
        """Drop the attributes."""


class _Current:
    """The tracer of this process."""

    tracer: Tracer | None = None


@contextmanager
def traced_by(tracer: Tracer) -> Iterator[None]:
    """Have spans made by this tracer until the end of the block."""
    before, _Current.tracer = _Current.tracer, tracer
    try:
        yield
    finally:
        _Current.tracer = before


def is_traced() -> bool:
    """Return whether this process is traced."""
    return _Current.tracer is not None


def span(
    name: str,
    attributes: Attributes | None = None,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    carrier: Mapping[str, str] | None = None,
) -> AbstractContextManager[Span]:
    """Make a span around a block, failed when the block raises.

    Its parent is the current span or, given a `carrier` (headers, `traceparent` among them), the carrier's. An error is
    recorded by its type alone: its message may hold secrets.
    """
    if _Current.tracer is None:
        return nullcontext(_NoSpan())
    return _Current.tracer.span(name, attributes, kind, carrier)


def spanned(items: Iterable[Item], name: str, attributes: Attributes | None = None) -> Iterable[Item]:
    """Return the items, and make a span from when the first is asked for until the last, or no more, is taken."""
    return items if _Current.tracer is None else _Current.tracer.spanned(items, name, attributes)


def fail(failed: Span, why: str) -> None:
    """Mark a span as failed, by the type or code of what went wrong."""
    if _Current.tracer is not None:
        _Current.tracer.fail(failed, why)


def link(made: Span, other: str | None) -> None:
    """Link a span to the one of a `traceparent`, if there is any."""
    if _Current.tracer is not None and other is not None:
        _Current.tracer.link(made, other)


def traceparent() -> str | None:
    """Return the current span's context as a W3C `traceparent`, or None where nothing is traced."""
    return None if _Current.tracer is None else _Current.tracer.traceparent()


def span_ids() -> dict[str, str]:
    """Return the ids of the current trace and span in hexadecimal; empty where nothing is traced."""
    return {} if _Current.tracer is None else _Current.tracer.span_ids()
