"""CSV of any answer with a table, for whoever asks for it by `?format=csv` or by `Accept: text/csv`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from functools import cache
from typing import Literal, get_args, get_origin, get_type_hints

import msgspec
from aiohttp import web

from usage_service.problems import FieldError, invalid
from usage_service.web.errors import Handler
from usage_service.web.etags import TAG
from usage_service.web.tables import Table

CSV, JSON = "text/csv", "application/json"
SUFFIX = '-csv"'  # of the entity tag, before its closing quote: the same answer in another form has another tag
CONDITION = "If-None-Match"
REPLACED = {"if-none-match", "accept-encoding"}
NEXT = re.compile(r'<([^>]*)>; rel="next"')
FEW_BYTES = 65_536  # that are converted at once; more are converted beside the event loop


def tabular(handler: Handler, table: Table, query: type[msgspec.Struct] | None) -> Handler:
    """Return the handler, which answers with its table as CSV when that is asked for.

    `format` is taken out of the query, unless the handler has forms of its own and one of those is asked for.
    """
    own = forms_of(query)

    async def choose(request: web.Request) -> web.StreamResponse:
        form = _form_of(request, own)
        if form != "csv":
            plain = request if form in own or "format" not in request.query else _without_form(request)
            return _varied(await handler(plain))
        answer = await handler(_without_form(request, _json_tags(request)))
        return _varied(await _as_csv(answer, table) if isinstance(answer, web.Response) else answer)

    return choose


@cache  # reading the hints of a struct takes as long as a request, and a server has dozens of them
def forms_of(query: type[msgspec.Struct] | None) -> tuple[str, ...]:
    """Return the forms that a route has by itself: the choices of its parameter `format`."""
    hint = get_type_hints(query).get("format") if query else None
    return get_args(hint) if get_origin(hint) is Literal else ()


def all_forms(query: type[msgspec.Struct] | None) -> list[str]:
    """Return the forms of a route with a table."""
    return ["json", *(form for form in forms_of(query) if form != "json"), "csv"]


def _form_of(request: web.Request, own: tuple[str, ...]) -> str:
    given = request.query.getall("format", [])
    if len(given) > 1:
        raise invalid([FieldError(parameter="format", detail="is given twice")])
    forms = dict.fromkeys(("json", *own, "csv"))
    if given and given[0] not in forms:
        raise invalid([FieldError(parameter="format", detail=f"must be one of {', '.join(forms)}")])
    return given[0] if given else "csv" if _prefers_csv(request) else "json"


def _prefers_csv(request: web.Request) -> bool:
    """Return whether Accept (RFC 9110 12.5.1) names text/csv, with a weight not below that of JSON."""
    weights = dict(_weights(",".join(request.headers.getall("Accept", ()))))
    wanted = weights.get(CSV, 0.0)
    return wanted > 0 and wanted >= weights.get(JSON, 0.0)


def _weights(accept: str) -> Iterator[tuple[str, float]]:
    for offer in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in offer.split(";"))
        given = next((one[2:] for one in parameters if one.startswith("q=")), "1")
        yield kind, float(given) if re.fullmatch(r"[01](\.[0-9]{0,3})?", given) else 0.0


def _without_form(request: web.Request, headers: list[tuple[str, str]] | None = None) -> web.Request:
    kept = [(name, value) for name, value in request.query.items() if name != "format"]
    place = request.rel_url.with_query(kept)
    return request.clone(rel_url=place) if headers is None else request.clone(rel_url=place, headers=headers)


def _json_tags(request: web.Request) -> list[tuple[str, str]]:
    """Return the request's headers for JSON that is not packed, with the tags of that instead of those of its CSV."""
    given = ", ".join(request.headers.getall(CONDITION, ()))
    tags = [tag.removesuffix(SUFFIX) + '"' for tag in TAG.findall(given) if tag.endswith(SUFFIX)]
    wanted = "*" if given.strip() == "*" else ", ".join(tags)
    kept = [(name, value) for name, value in request.headers.items() if name.lower() not in REPLACED]
    return [*kept, (CONDITION, wanted)] if wanted else kept


async def _as_csv(answer: web.Response, table: Table) -> web.Response:
    """Return the answer with its table as CSV; a problem, or an answer without a body, keeps its own."""
    if "ETag" in answer.headers:
        answer.headers["ETag"] = answer.headers["ETag"][:-1] + SUFFIX
    if answer.status != 200 or not isinstance(answer.body, bytes):
        return answer
    found = answer.body
    answer.body = table.csv(found) if len(found) <= FEW_BYTES else await asyncio.to_thread(table.csv, found)
    answer.content_type = CSV
    if "Link" in answer.headers:
        answer.headers["Link"] = NEXT.sub(r'<\1&format=csv>; rel="next"', answer.headers["Link"])
    return answer


def _varied(answer: web.StreamResponse) -> web.StreamResponse:
    """Add to Vary what the form depends on."""
    vary = answer.headers.get("Vary")
    answer.headers["Vary"] = f"{vary}, Accept" if vary else "Accept"
    return answer
