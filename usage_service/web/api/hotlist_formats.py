"""A hot list as JSON, as CSV, or as names, one a line; packed for who takes it packed."""

from __future__ import annotations

import csv
import io
from typing import Literal

from aiohttp import web

from usage_service.hotlist.listing import HotList
from usage_service.web.answers import Body, as_json
from usage_service.web.openapi.operations import Content, json_of

Format = Literal["json", "csv", "lines"]
CSV_COLUMNS = ("product", "probe", "score", "built_at", "reasons")


def forms_of(kind: type[HotList]) -> tuple[Content, ...]:
    """How each form is sent."""
    return json_of(kind), Content("text/csv", str), Content("text/plain", str)


def list_body(made: HotList, form: Format) -> Body:
    """The list in a form; CSV has the reasons in words, lines have the names alone."""
    if form == "csv":
        return Body(_csv(made).encode(), "text/csv")
    if form == "lines":
        return Body("".join(f"{hot.probe}\n" for hot in made.probes).encode(), "text/plain")
    return as_json(made)


def _csv(made: HotList) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for hot in made.probes:
        built = hot.built_at.isoformat() if hot.built_at else ""
        writer.writerow([hot.product, hot.probe, hot.score, built, "; ".join(reason.text for reason in hot.reasons)])
    return text.getvalue()


def packed(request: web.Request, response: web.Response) -> web.Response:
    """The same, gzipped by Accept-Encoding; so its tag is weak: the bytes may differ, what they say does not."""
    vary = response.headers.get("Vary")
    response.headers["Vary"] = f"{vary}, Accept-Encoding" if vary else "Accept-Encoding"
    if "ETag" in response.headers:
        response.headers["ETag"] = f"W/{response.headers['ETag']}"
    if response.body and "gzip" in request.headers.get("Accept-Encoding", "").lower():
        response.enable_compression(web.ContentCoding.gzip)
    return response
