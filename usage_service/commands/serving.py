"""`usage-service serve`: the server alone, against DATABASE_URL."""

import os

import typer
import uvloop

from usage_service.shared.settings import ClientSettings, MirrorSettings, ServerSettings, check_names, load_settings
from usage_service.shared.trace_export import exported_spans
from usage_service.web.server import serve


def serve_command() -> None:
    """Serve on USAGE_SERVICE_HOST:USAGE_SERVICE_PORT until SIGTERM."""
    check_names(os.environ, "USAGE_SERVICE_", ServerSettings, ClientSettings, MirrorSettings)
    settings = load_settings(ServerSettings)
    with exported_spans("usage-service"):
        healthy = uvloop.run(serve(settings))
    if not healthy:
        raise typer.Exit(1)
