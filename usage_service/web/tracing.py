"""A span for each request, part of its caller's trace where that says so."""

from __future__ import annotations

from aiohttp import hdrs, web

from usage_service.shared.tracing import SpanKind, fail, span
from usage_service.web.errors import Handler

# Asked every few seconds by what watches over us: their spans would hide the others.
UNTRACED = frozenset({"/__heartbeat__", "/__lbheartbeat__", "/__version__", "/metrics"})


@web.middleware
async def trace_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Names the span by the method and the route's template, as OpenTelemetry's conventions for HTTP have it.

    Paths and parameters are not in it: they hold ids.
    """
    if request.path in UNTRACED:
        return await handler(request)
    method = request.method if request.method in hdrs.METH_ALL else "_OTHER"
    about = {"http.request.method": method, "url.scheme": request.scheme}
    name = method if method != "_OTHER" else "HTTP"
    if (resource := request.match_info.route.resource) is not None:
        about["http.route"] = resource.canonical
        name = f"{name} {resource.canonical}"
    with span(name, about, kind=SpanKind.SERVER, carrier=request.headers) as made:
        response = await handler(request)
        made.set_attribute("http.response.status_code", response.status)
        if response.status >= 500:
            fail(made, str(response.status))
        return response
