"""Paths of requests as they may be logged: the address of a feed has a token in it."""

from __future__ import annotations

from aiohttp.web import BaseRequest

FEEDS = "/feeds/"
MOST_CHARACTERS = 200


def logged_path(request: BaseRequest) -> str:
    """Return the path of a request without a token, cut where it is long."""
    path = request.path
    return f"{FEEDS}..." if FEEDS in path else path[:MOST_CHARACTERS]
