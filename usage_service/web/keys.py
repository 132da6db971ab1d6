"""Keys of the application: the running service."""

from aiohttp import web

from usage_service.service import Service

SERVICE = web.AppKey("service", Service)


def service_of(request: web.Request) -> Service:
    """Return the service that answers this request."""
    return request.app[SERVICE]
