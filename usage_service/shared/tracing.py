"""Spans of what is done (OpenTelemetry), where somebody takes them; else next to nothing.

One trace leads from an HTTP request through the build that it asks for to the warehouse's jobs: the server leaves the
trace's context (W3C `traceparent`) with the build, and each attempt at it goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

__all__ = ["Span", "SpanKind"]

Attributes = Mapping[str, str | int]
Item = TypeVar("Item")

_W3C = TraceContextTextMapPropagator()
_NOBODY = Context()


class _Taker:
    """Who takes spans in this process."""

    tracer: Tracer | None = None


@contextmanager
def traced_by(tracer: Tracer) -> Iterator[None]:
    """Until the end, spans are made by this tracer. Not the global one of OpenTelemetry, which can be set only once."""
    before, _Taker.tracer = _Taker.tracer, tracer
    try:
        yield
    finally:
        _Taker.tracer = before


def is_traced() -> bool:
    """Whether somebody takes spans."""
    return _Taker.tracer is not None


@contextmanager
def span(
    name: str,
    attributes: Attributes | None = None,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    carrier: Mapping[str, str] | None = None,
) -> Iterator[Span]:
    """A span around what is done inside, failed when that raises.

    It belongs to the span that it is made in or, given a `carrier` (headers, `traceparent` among them), to that one's.
    What was raised is told by its type alone: messages may hold what is nobody's business.
    """
    if _Taker.tracer is None:
        yield trace.INVALID_SPAN
        return
    begun = _Taker.tracer.start_as_current_span(
        name,
        context=None if carrier is None else _W3C.extract(carrier, _NOBODY),
        kind=kind,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    )
    with begun as made:
        try:
            yield made
        except Exception as error:
            fail(made, type(error).__name__)
            raise


def spanned(items: Iterable[Item], name: str, attributes: Attributes | None = None) -> Iterable[Item]:
    """The same items, with a span from when the first is asked for until the last is taken, or no more are."""
    return items if _Taker.tracer is None else _spanned(_Taker.tracer, items, name, attributes)


def _spanned(tracer: Tracer, items: Iterable[Item], name: str, attributes: Attributes | None) -> Iterator[Item]:
    # Never the current span: a generator may be ended by another thread than it began in.
    made = tracer.start_span(name, attributes=attributes)
    try:
        yield from items
    except Exception as error:
        fail(made, type(error).__name__)
        raise
    finally:
        made.end()


def fail(failed: Span, why: str) -> None:
    """Marks a span as failed, by the type or code of what went wrong."""
    failed.set_attribute("error.type", why)
    failed.set_status(Status(StatusCode.ERROR))


def traceparent() -> str | None:
    """The context of the current span as W3C has it, for who goes on with the trace; None where nothing is traced."""
    carrier: dict[str, str] = {}
    if is_traced():
        _W3C.inject(carrier)
    return carrier.get("traceparent")


def link(made: Span, other: str | None) -> None:
    """Links a span to the one of a `traceparent`, if there is any."""
    if other is not None:
        context = trace.get_current_span(_W3C.extract({"traceparent": other}, _NOBODY)).get_span_context()
        made.add_link(context)


def span_ids() -> dict[str, str]:
    """The ids of the current trace and span as they are written; empty where nothing is traced."""
    context = trace.get_current_span().get_span_context()
    if not is_traced() or not context.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}
