"""What all handlers share: the keys of the application, and JSON."""

from __future__ import annotations

import msgspec
from aiohttp import web

from warehouse.api.jobs import JobStore
from warehouse.api.uploads import Uploads
from warehouse.engine import Engine

ENGINE = web.AppKey("engine", Engine)
JOBS = web.AppKey("jobs", JobStore)
UPLOADS = web.AppKey("uploads", Uploads)


def answer_json(content: object, status: int = 200) -> web.Response:
    """Return content as an answer in JSON."""
    return web.Response(body=msgspec.json.encode(content), status=status, content_type="application/json")
