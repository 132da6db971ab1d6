"""GET /metrics: the metrics of the service for Prometheus."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from usage_service.service import Service
from usage_service.shared.log_metrics import LogCollector
from usage_service.shared.postgres import UNAVAILABLE, borrow
from usage_service.web.api.database_metrics import DatabaseCollector, DatabaseState, read_database
from usage_service.web.api.service_metrics import ServiceCollector
from usage_service.web.openapi.operations import Content, Response, described

SCRAPE_SECONDS = 2.0


class Metrics:
    """Metrics of one service, in a registry of its own."""

    def __init__(self, service: Service, registry: CollectorRegistry) -> None:
        self._service = service
        self._registry = registry
        self._database = DatabaseCollector()
        registry.register(self._database)
        registry.register(ServiceCollector(service))
        registry.register(LogCollector())

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics as text, and the media type: OpenMetrics for callers that accept it."""
        encode, content_type = choose_encoder(accept)
        self._database.state = await self._read_database()  # no await from here to the encoding
        return encode(self._registry), content_type

    async def _read_database(self) -> DatabaseState:
        """Return the state of the database, read within SCRAPE_SECONDS."""
        try:
            async with borrow(self._service.pool, SCRAPE_SECONDS) as connection:
                return await read_database(connection)
        except UNAVAILABLE:
            return DatabaseState()


METRICS = web.AppKey("metrics", Metrics)


@described(
    Response(
        200,
        "the metrics in the text format of Prometheus, or as OpenMetrics when Accept asks for it",
        (Content("text/plain", str), Content("application/openmetrics-text", str)),
    )
)
async def get_metrics(request: web.Request) -> web.Response:
    """Get the metrics for Prometheus.

    The answer is 200 without the database, too: then `glam_database_up` is 0.
    """
    data, content_type = await request.app[METRICS].exposition(request.headers.get("Accept", ""))
    return web.Response(body=data, headers={"Content-Type": content_type})
