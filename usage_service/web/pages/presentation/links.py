"""Links from a probe to where else people look at it; the patterns are settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

from usage_service.imports.registrations import APPS
from usage_service.shared.settings import NO_LINK, ServerSettings

PLACE = re.compile(r"\{(\w+)\}")


def probe_links(
    settings: ServerSettings, product: str, probe: str, channel: str, pings: Sequence[str]
) -> dict[str, str]:
    """Return the address of a probe by the name of each tool; one whose pattern is `none` is left out."""
    patterns = {
        "GLAM": settings.glam_link,
        "Glean Dictionary": settings.dictionary_link,
        "Looker": settings.looker_link,
        "Searchfox": settings.searchfox_link,
    }
    ping = pings[0] if pings else "metrics"
    named = {"product": product, "app": APPS.get(product, product), "probe": probe.replace(".", "_")}
    named |= {"channel": channel, "ping": ping.replace("-", "_")}
    return {
        tool: PLACE.sub(lambda place: quote(named[place[1]], safe=""), pattern)
        for tool, pattern in patterns.items()
        if pattern != NO_LINK
    }
