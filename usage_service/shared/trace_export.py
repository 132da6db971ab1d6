"""Export of spans to a collector over OTLP, when the standard variables of OpenTelemetry name one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import structlog
from msgspec import Meta, field

from usage_service.shared.patterns import worded
from usage_service.shared.settings import load_settings
from usage_service.shared.tracing import Tracer, traced_by

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

FLUSH_SECONDS = 5.0
Endpoint = Annotated[str, Meta(pattern=worded("^https?://", "an address that begins with http:// or https://"))]

log = structlog.get_logger(__name__)


class TracingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The variables of OpenTelemetry that decide whether anything is traced, and those used most often.

    The SDK reads its other variables itself.
    """

    endpoint: Annotated[
        Endpoint | None, Meta(description="a collector, such as http://127.0.0.1:4318; without it nothing is traced")
    ] = field(name="OTEL_EXPORTER_OTLP_ENDPOINT", default=None)
    traces_endpoint: Annotated[
        Endpoint | None, Meta(description="instead, the whole URL that traces are posted to")
    ] = field(name="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", default=None)
    protocol: Annotated[Literal["http/protobuf"], Meta(description="how spans are sent; no other way is there")] = (
        field(name="OTEL_EXPORTER_OTLP_PROTOCOL", default="http/protobuf")
    )
    headers: Annotated[str | None, Meta(description="headers to send with them, such as api-key=secret, by commas")] = (
        field(name="OTEL_EXPORTER_OTLP_HEADERS", default=None)
    )
    timeout: Annotated[float, Meta(gt=0, le=60, description="seconds that sending a batch may take, in all")] = field(
        name="OTEL_EXPORTER_OTLP_TIMEOUT", default=10
    )
    sampler: Annotated[
        Literal[
            "always_on", "always_off", "traceidratio",
            "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio",
        ],
        Meta(description="which traces are taken"),
    ] = field(name="OTEL_TRACES_SAMPLER", default="parentbased_always_on")  # fmt: skip
    share: Annotated[float, Meta(ge=0, le=1, description="the share that ..._traceidratio takes")] = field(
        name="OTEL_TRACES_SAMPLER_ARG", default=1
    )
    service: Annotated[str | None, Meta(description="what the program is called; else as its command")] = field(
        name="OTEL_SERVICE_NAME", default=None
    )
    attributes: Annotated[
        str | None, Meta(description="what else is said of it, such as deployment.environment.name=production")
    ] = field(name="OTEL_RESOURCE_ATTRIBUTES", default=None)
    exporter: Annotated[Literal["otlp", "none"], Meta(description="none traces nothing")] = field(
        name="OTEL_TRACES_EXPORTER", default="otlp"
    )
    disabled: Annotated[bool, Meta(description="true traces nothing")] = field(name="OTEL_SDK_DISABLED", default=False)

    @property
    def on(self) -> bool:
        """Return whether there is a collector to send to."""
        named = self.endpoint is not None or self.traces_endpoint is not None
        return named and self.exporter == "otlp" and not self.disabled


@contextmanager
def exported_spans(program: str) -> Iterator[None]:
    """Send the spans of a block to the collector, if one is named. Raise SettingsError for wrong variables.

    They are sent by a thread, from a queue of 2,048: a collector that is away costs spans, never an answer. At the end
    the spans that are left are sent for FLUSH_SECONDS at most, and meanwhile this blocks.
    """
    if not load_settings(TracingSettings).on:
        yield
        return
    provider, tracer = _provider(program)
    try:
        with traced_by(tracer):
            log.info("tracing", program=program)
            yield
    finally:
        # The SDK has no time-out for this that it keeps to.
        ending = threading.Thread(target=provider.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(FLUSH_SECONDS)
        if ending.is_alive():
            log.warning("spans_not_sent", seconds=FLUSH_SECONDS)


def _provider(program: str) -> tuple[TracerProvider, Tracer]:
    # Imported here, because they come with an extra, and take long to load.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from usage_service.shared.otel import OtelTracer

    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: program}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider, OtelTracer(provider.get_tracer("glam-usage"))
