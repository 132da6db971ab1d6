"""Spans of `tracing` made by OpenTelemetry, whose API is loaded with this module, only where something is traced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from usage_service.shared.tracing import Attributes, Item, Span, SpanKind

_W3C = TraceContextTextMapPropagator()
_NO_CONTEXT = Context()


class OtelTracer:
    """A tracer of `tracing` that makes its spans by a tracer of OpenTelemetry.

    That is not the global one, which can be set only once in a process.
    """

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    @contextmanager
    def span(
        self, name: str, attributes: Attributes | None, kind: SpanKind, carrier: Mapping[str, str] | None
    ) -> Iterator[Span]:
        """Make a span around a block."""
        begun = self._tracer.start_as_current_span(
            name,
            context=None if carrier is None else _W3C.extract(carrier, _NO_CONTEXT),
            kind=trace.SpanKind[kind.value],
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        )
        with begun as made:
            try:
                yield made
            except Exception as error:
                _fail(made, type(error).__name__)
                raise

    def spanned(self, items: Iterable[Item], name: str, attributes: Attributes | None) -> Iterator[Item]:
        """Make a span around an iteration."""
        # Never the current span: a generator may be ended by another thread than it began in.
        made = self._tracer.start_span(name, attributes=attributes)
        try:
            yield from items
        except Exception as error:
            _fail(made, type(error).__name__)
            raise
        finally:
            made.end()

    def fail(self, failed: Span, why: str) -> None:
        """Mark a span as failed."""
        if isinstance(failed, trace.Span):
            _fail(failed, why)

    def link(self, made: Span, traceparent: str) -> None:
        """Link a span to another."""
        if isinstance(made, trace.Span):
            other = trace.get_current_span(_W3C.extract({"traceparent": traceparent}, _NO_CONTEXT))
            made.add_link(other.get_span_context())

    def traceparent(self) -> str | None:
        """Return the context of the current span."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return carrier.get("traceparent")

    def span_ids(self) -> dict[str, str]:
        """Return the ids of the current trace and span."""
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return {}
        return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}


def _fail(failed: trace.Span, why: str) -> None:
    failed.set_attribute("error.type", why)
    failed.set_status(Status(StatusCode.ERROR))
