"""/v1/hidden: patterns of names of probes that are neither built nor listed."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.events import NO_NUL, Product
from usage_service.hidden_probes import HiddenPattern, find_patterns, set_hidden
from usage_service.problems import Problem
from usage_service.shared.patterns import worded
from usage_service.web.access import source_of
from usage_service.web.answers import json_answer
from usage_service.web.api.known_names import refuse_unknown
from usage_service.web.bodies import json_body
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import Response, described, json_of, ok, problem
from usage_service.web.parameters import parameters_from, query_parameters

Pattern = Annotated[
    str,
    Meta(
        pattern=worded(
            r"^(?=.*[a-z0-9_])[a-z0-9_*]{1,255}(?!\n)$",
            "small letters, digits, _ and *, not * alone, 255 at most; a dot of a name is _ here",
        ),
        description="small letters, digits and underscores, which stand for dots, too; * stands for any text",
    ),
]


class PatternPath(msgspec.Struct):
    """Pattern that the path names."""

    pattern: Pattern


class HiddenParameters(msgspec.Struct, forbid_unknown_fields=True):
    """Product that the pattern is of; every product by default."""

    product: Product | None = None


class HidingRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Reason to hide what the pattern names."""

    reason: Annotated[str, Meta(max_length=500, pattern=NO_NUL)] = ""


class HiddenAnswer(msgspec.Struct, frozen=True):
    """Patterns, in their order."""

    patterns: list[HiddenPattern]


class HidingAnswer(msgspec.Struct, frozen=True):
    """Pattern that is set now."""

    pattern: str
    product: str | None


@described(ok(HiddenAnswer), query=HiddenParameters, table="patterns")
async def get_hidden(request: web.Request) -> web.Response:
    """List the patterns: what GLAM hides, and what operators do.

    A probe that a pattern names is neither built nor listed; views of it are recorded all the same.
    """
    asked = query_parameters(request, HiddenParameters)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        return json_answer(HiddenAnswer(await find_patterns(connection, asked.product)))


@described(ok(HidingAnswer, "Log-Position"), path=PatternPath, query=HiddenParameters, body=(json_of(HidingRequest),))
async def put_hidden(request: web.Request) -> web.Response:
    """Hide the probes that a pattern names, of a product or of all.

    The pattern is recorded as an event of the log.
    """
    path, asked = _path(request), query_parameters(request, HiddenParameters)
    reason = (await json_body(request, HidingRequest)).reason
    async with service_of(request).pool.acquire(timeout=5) as connection:
        await refuse_unknown(connection, asked.product, of_address=True)
        position = await set_hidden(connection, path.pattern, asked.product, reason, source_of(request), hidden=True)
    return json_answer(HidingAnswer(path.pattern, asked.product), position=position)


@described(
    Response(204, "the pattern is lifted", (), ("Log-Position",)),
    problem(404, "there was no such pattern"),
    path=PatternPath,
    query=HiddenParameters,
)
async def delete_hidden(request: web.Request) -> web.Response:
    """Lift a pattern, so that the probes that it names are built and listed again."""
    path, asked = _path(request), query_parameters(request, HiddenParameters)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        position = await set_hidden(connection, path.pattern, asked.product, "", source_of(request), hidden=False)
    if position is None:
        raise Problem(404, "No such pattern", f"{path.pattern} hides nothing of {asked.product or 'every product'}")
    return web.Response(status=204, headers={"Log-Position": str(position)})


def _path(request: web.Request) -> PatternPath:
    return parameters_from(dict(request.match_info), PatternPath)
