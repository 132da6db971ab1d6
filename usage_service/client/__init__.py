"""The client that an app's backend posts its events with; light to import, safe under threads and fork."""

from usage_service.client.client import UsageClient
from usage_service.client.delivery_stats import Stats
from usage_service.client.outgoing import WrongEventError

__all__ = ["Stats", "UsageClient", "WrongEventError"]
