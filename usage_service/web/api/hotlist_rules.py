"""/v1/hotlist/rules: what operators pin to the hot list, and exclude from it and from being built."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.events import NO_NUL, Product
from usage_service.hotlist.rules import Rule, RuleOfProbe, find_rules, set_rule
from usage_service.problems import Problem
from usage_service.web.answers import json_answer
from usage_service.web.api.probes import ProbePath
from usage_service.web.bodies import json_body
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import Response, described, json_of, ok, problem
from usage_service.web.parameters import parameters_from, query_parameters


class RuleRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be done with a probe, and why."""

    rule: Rule
    reason: Annotated[str, Meta(max_length=500, pattern=NO_NUL)] = ""


class RulesParameters(msgspec.Struct, forbid_unknown_fields=True):
    """Of which product (all of them)."""

    product: Product | None = None


class RulesAnswer(msgspec.Struct, frozen=True):
    """All rules, in the order of names."""

    rules: list[RuleOfProbe]


class RuleAnswer(msgspec.Struct, frozen=True):
    """The rule that a probe has now."""

    product: str
    probe: str
    rule: Rule


@described(ok(RulesAnswer), query=RulesParameters)
async def get_rules(request: web.Request) -> web.Response:
    """Every probe that is pinned or excluded, why and by whom."""
    asked = query_parameters(request, RulesParameters)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        return json_answer(RulesAnswer(await find_rules(connection, asked.product)))


@described(ok(RuleAnswer, "Log-Position"), path=ProbePath, body=(json_of(RuleRequest),))
async def put_rule(request: web.Request) -> web.Response:
    """200 with the rule that the probe has now; it is an event of the log."""
    path, asked = _path(request), await json_body(request, RuleRequest)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        position = await set_rule(connection, path.product, path.probe, asked.rule, asked.reason, "admin")
    service_of(request).fresh.forget()  # on the other servers it is noticed within a moment
    return json_answer(RuleAnswer(path.product, path.probe, asked.rule), position=position)


@described(
    Response(204, "the rule is lifted", (), ("Log-Position",)), problem(404, "there was no rule"), path=ProbePath
)
async def delete_rule(request: web.Request) -> web.Response:
    """204 when the rule is lifted; 404 when there was none."""
    path = _path(request)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        position = await set_rule(connection, path.product, path.probe, None, "", "admin")
    if position is None:
        raise Problem(404, "No such rule", f"{path.probe} of {path.product} is neither pinned nor excluded")
    return web.Response(status=204, headers={"Log-Position": str(position)})


def _path(request: web.Request) -> ProbePath:
    return parameters_from(dict(request.match_info), ProbePath)
