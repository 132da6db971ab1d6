"""`usage-service reference`: the page of event types, made from the types."""

from __future__ import annotations

import sys

from usage_service.reference import events_page


def reference_command() -> None:
    """Print the reference of event types (docs/events.md)."""
    sys.stdout.write(events_page())
