"""POST /v1/builds: request a build; /{id}/retry: a failed build again."""

from __future__ import annotations

import time

import msgspec
from aiohttp import web

from usage_service.builds.requests import Build, Requested, near_names, request_build, request_build_once, retry_build
from usage_service.events import Channel, ProbeName, Product
from usage_service.glam.data import CHANNELS
from usage_service.hidden_probes import find_hiding
from usage_service.problems import FieldError, Problem, invalid
from usage_service.shared.postgres import Connection
from usage_service.web.access import source_of
from usage_service.web.api.build_answers import (
    BuildPath,
    build_answer,
    build_id_of,
    existing,
    no_such_build,
    place,
    waited,
)
from usage_service.web.api.known_names import refuse_unknown
from usage_service.web.bodies import json_body
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import TAGGED, described, json_of, ok, problem
from usage_service.web.preferences import idempotency_key


class BuildRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Probe to build."""

    product: Product
    channel: Channel
    probe: ProbeName


class NoFields(msgspec.Struct, forbid_unknown_fields=True):
    """Empty body."""


PENDING_HEADERS = ("Location", "Retry-After", "ETag", "Log-Position", "Cache-Control", "Vary")


@described(
    ok(Build, *PENDING_HEADERS, "Content-Location", "Preference-Applied", status=202, means="it is pending"),
    ok(Build, "Location", "Log-Position", "Preference-Applied", status=303, means="the result is at Location"),
    ok(Build, "Content-Location", *TAGGED, "Preference-Applied", means="the build failed or was cancelled"),
    problem(404, "the catalogue has no such probe; `near_names` are similar names"),
    problem(422, "the body is not valid, nothing is known of the channel, or the probe is not aggregated"),
    headers=("Prefer", "Idempotency-Key"),
    body=(json_of(BuildRequest),),
)
async def post_build(request: web.Request) -> web.Response:
    """Request a build of a probe.

    The answer is 202 with the build's URL, or 303 to the result when that is fresh. It is 404 for an unknown probe, and
    422 for one that cannot be built, or for a channel that nothing is known of.

    With `Prefer: wait=N` the answer waits until the build is over, N seconds at most. A repeated request (with the same
    Idempotency-Key) is answered with the build of the first request: with 200 when it failed or was cancelled.
    """
    asked, key = await json_body(request, BuildRequest), idempotency_key(request)
    known = None if key else service_of(request).fresh.find((asked.product, asked.channel, asked.probe))
    build = known or await _asked_for(request, asked, key)
    build, headers = await waited(request, build, lambda later: not later.pending)
    headers |= {"Content-Location": place(build)} if not build.has_result else {}
    headers |= {"Location": place(build)} if build.pending else {}
    return await build_answer(request, build, headers, pending_status=202)


@described(
    ok(Build, *PENDING_HEADERS, status=202, means="the build is queued again"),
    ok(Build, *TAGGED, means="the build is over again already"),
    ok(Build, "Location", "Log-Position", status=303, means="the build has a result already"),
    problem(404, "there is no such build"),
    problem(409, "the build did not fail, or another build of its probe is under way"),
    path=BuildPath,
    body=(json_of(NoFields),),
    body_required=False,
)
async def post_retry(request: web.Request) -> web.Response:
    """Retry a failed build.

    The answer is 202 when the build is queued again, and 409 when it did not fail or another build of its probe is
    under way.
    """
    if request.body_exists:
        await json_body(request, NoFields)
    build_id = build_id_of(request)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        outcome = await retry_build(connection, build_id, source_of(request))
        if outcome == "unknown":
            raise no_such_build(build_id)
        build = await existing(connection, build_id)
    if outcome == "under_way":
        raise Problem(409, "Another build is under way", f"{build.probe} is being built anew already")
    if outcome == "not_failed":
        raise Problem(
            409, "Not failed", f"the build is {build.state}; only one that failed is retried", state=build.state
        )
    return await build_answer(request, build, {"Location": place(build)}, pending_status=202)


async def _asked_for(request: web.Request, asked: BuildRequest, key: str | None) -> Build:
    asked_at = time.monotonic()
    async with service_of(request).pool.acquire(timeout=5) as connection:
        if asked.channel not in CHANNELS:  # those are known of every product, without a look
            await refuse_unknown(connection, asked.product, asked.channel)
        requested = await _request(connection, asked, key, source_of(request))
        if requested.build_id is None:
            raise await _refusal(connection, asked, requested)
        build = await existing(connection, requested.build_id)
    if requested.outcome == "fresh":
        service_of(request).fresh.remember((asked.product, asked.channel, asked.probe), build, asked_at)
    return build


async def _request(connection: Connection, asked: BuildRequest, key: str | None, source: str) -> Requested:
    wanted = (asked.product, asked.channel, asked.probe, source)
    if key is None:
        return await request_build(connection, *wanted)
    return await request_build_once(connection, key, *wanted)


async def _refusal(connection: Connection, asked: BuildRequest, requested: Requested) -> Problem:
    if requested.outcome == "mismatch":
        detail = "was used for another request: take a new key for this one"
        return invalid([FieldError(detail=detail, parameter="Idempotency-Key")])
    if requested.outcome == "unknown":
        return _unknown(asked, await near_names(connection, asked.product, asked.probe))
    if requested.outcome == "unbuildable":
        why = f"is of type {requested.metric_type}, which is not aggregated"
    else:
        hiding = await find_hiding(connection, asked.product, asked.probe)
        why = f"is hidden by the pattern {hiding.pattern}: {hiding.reason}" if hiding else "is excluded by an operator"
    detail = f"{asked.probe} {why}"
    return Problem(422, "Not buildable", detail, [FieldError(detail=detail, pointer="/probe")])


def _unknown(asked: BuildRequest, near: list[str]) -> Problem:
    detail = f"{asked.product} has no probe {asked.probe}"
    return Problem(
        404,
        "Unknown probe",
        f"{detail}; did you mean {near[0]}?" if near else detail,
        [FieldError(detail=detail, pointer="/probe")],
        near_names=near,
    )
