"""/v1/hotlist/rules: probes that operators pin to the hot list, or exclude from it and from being built."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.events import NO_NUL, Product
from usage_service.hotlist.rules import Rule, RuleOfProbe, find_rules, set_rule
from usage_service.problems import Problem
from usage_service.web.access import source_of
from usage_service.web.answers import json_answer
from usage_service.web.api.known_names import refuse_unknown
from usage_service.web.api.probes import ProbePath
from usage_service.web.bodies import json_body
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import Response, described, json_of, ok, problem
from usage_service.web.parameters import parameters_from, query_parameters


class RuleRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Rule for a probe, and the reason for it."""

    rule: Rule
    reason: Annotated[str, Meta(max_length=500, pattern=NO_NUL)] = ""


class RulesParameters(msgspec.Struct, forbid_unknown_fields=True):
    """Product of the rules; all products by default."""

    product: Product | None = None


class RulesAnswer(msgspec.Struct, frozen=True):
    """All rules, in the order of names."""

    rules: list[RuleOfProbe]


class RuleAnswer(msgspec.Struct, frozen=True):
    """Rule that a probe has now."""

    product: str
    probe: str
    rule: Rule


@described(ok(RulesAnswer), query=RulesParameters, table="rules")
async def get_rules(request: web.Request) -> web.Response:
    """List the rules: every probe that is pinned or excluded, why and by whom."""
    asked = query_parameters(request, RulesParameters)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        return json_answer(RulesAnswer(await find_rules(connection, asked.product)))


@described(ok(RuleAnswer, "Log-Position"), path=ProbePath, body=(json_of(RuleRequest),))
async def put_rule(request: web.Request) -> web.Response:
    """Set the rule of a probe.

    The rule is recorded as an event of the log.
    """
    path, asked = _path(request), await json_body(request, RuleRequest)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        await refuse_unknown(connection, path.product, of_address=True)
        position = await set_rule(connection, path.product, path.probe, asked.rule, asked.reason, source_of(request))
    service_of(request).fresh.forget()  # other servers notice within a moment
    return json_answer(RuleAnswer(path.product, path.probe, asked.rule), position=position)


@described(
    Response(204, "the rule is removed", (), ("Log-Position",)), problem(404, "there was no rule"), path=ProbePath
)
async def delete_rule(request: web.Request) -> web.Response:
    """Remove the rule of a probe."""
    path = _path(request)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        position = await set_rule(connection, path.product, path.probe, None, "", source_of(request))
    if position is None:
        raise Problem(404, "No such rule", f"{path.probe} of {path.product} is neither pinned nor excluded")
    return web.Response(status=204, headers={"Log-Position": str(position)})


def _path(request: web.Request) -> ProbePath:
    return parameters_from(dict(request.match_info), ProbePath)
