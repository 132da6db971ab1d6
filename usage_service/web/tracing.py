"""Spans of requests, in the trace of the caller when the request names one."""

from __future__ import annotations

from aiohttp import web

from usage_service.shared.tracing import SpanKind, fail, span
from usage_service.web.errors import Handler
from usage_service.web.request_metrics import method_of, route_of

# Monitoring asks these every few seconds: their spans would hide the others.
UNTRACED = frozenset({"/__heartbeat__", "/__lbheartbeat__", "/__version__", "/metrics"})


@web.middleware
async def trace_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Handle the request in a span, named by its method and route as OpenTelemetry's conventions for HTTP say.

    The path and the parameters are left out, because they hold ids.
    """
    if request.path in UNTRACED:
        return await handler(request)
    method, route = method_of(request.method), route_of(request)
    about = {"http.request.method": method, "url.scheme": request.scheme}
    name = method if method != "_OTHER" else "HTTP"
    if route is not None:
        about["http.route"] = route
        name = f"{name} {route}"
    with span(name, about, kind=SpanKind.SERVER, carrier=request.headers) as made:
        response = await handler(request)
        made.set_attribute("http.response.status_code", response.status)
        if response.status >= 500:
            fail(made, str(response.status))
        return response
