"""Answers about one build, shared by the routes of builds: the build, waiting for it, and 404 for unknown ones."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote
from uuid import UUID

import msgspec
from aiohttp import web

from usage_service.builds.requests import Build, find_build, seconds_left
from usage_service.builds.watching import Item, Watch
from usage_service.problems import Problem
from usage_service.shared.postgres import Connection
from usage_service.web.access import needs_token
from usage_service.web.answers import json_answer
from usage_service.web.etags import entity_tag, is_matched
from usage_service.web.keys import service_of
from usage_service.web.preferences import preferred_wait
from usage_service.web.waiting import while_allowed


class BuildPath(msgspec.Struct):
    """Build that the path names."""

    build_id: UUID


def build_id_of(request: web.Request) -> UUID:
    """Return the id of the build in the path; raise a Problem (404) when it is not a UUID."""
    try:
        return UUID(request.match_info["build_id"])
    except ValueError:
        raise Problem(404, "No such build", "a build's id is a UUID, as POST /v1/builds answers it") from None


async def existing(connection: Connection, build_id: UUID) -> Build:
    """Return the build; raise a Problem (404) when there is none."""
    build = await find_build(connection, build_id)
    if build is None:
        raise no_such_build(build_id)
    return build


def no_such_build(build_id: UUID) -> Problem:
    """Return the problem (404) of a build that does not exist."""
    return Problem(404, "No such build", f"there is no build {build_id}; POST /v1/builds asks for one")


def place(build: Build) -> str:
    """Return the path of a build."""
    return f"/v1/builds/{build.build_id}"


def build_tag(build: Build) -> str:
    """Return the entity tag of a build, which changes with every event of the build and with the job that reads it."""
    return entity_tag("build", build.build_id, build.state, build.log_position, build.shared_job)


async def waited(request: web.Request, build: Build, enough: Callable[[Build], bool]) -> tuple[Build, dict[str, str]]:
    """Wait with `Prefer: wait=N` until the build is `enough`; return the build as it is then, and the header for it."""
    return await waited_for(request, service_of(request).watch, build.build_id, build, enough)


async def waited_for(
    request: web.Request, watch: Watch[Item], item_id: UUID, item: Item, enough: Callable[[Item], bool]
) -> tuple[Item, dict[str, str]]:
    """Wait as `waited` does, for what a watch tells of."""
    seconds = preferred_wait(request)
    if seconds is None or not watch.has_room:
        return item, {}
    if not enough(item):
        coming = watch.change(item_id, enough, seconds, lambda: request.transport is None)
        changed = await while_allowed(request, coming)
        item = changed or item
    return item, {"Preference-Applied": f"wait={seconds}"}


async def build_answer(
    request: web.Request, build: Build, headers: dict[str, str], pending_status: int = 200
) -> web.Response:
    """Return 303 to the result of a build that has one, else the build; a pending build has Retry-After."""
    if build.has_result:
        location = f"/v1/probes/{quote(build.product)}/{quote(build.probe)}?channel={quote(build.channel)}"
        return json_answer(build, status=303, position=build.log_position, headers=headers | {"Location": location})
    headers = headers | {"ETag": build_tag(build), "Cache-Control": "no-cache"}
    if needs_token(request, "read"):
        headers["Vary"] = "Authorization"
    if build.pending:
        async with service_of(request).pool.acquire(timeout=5) as connection:
            headers["Retry-After"] = str(await seconds_left(connection, build))
    status = pending_status if build.pending else 200
    return json_answer(build, status=status, position=build.log_position, headers=headers)


async def build_answer_if_changed(request: web.Request, build: Build, headers: dict[str, str]) -> web.Response:
    """Return the answer of `build_answer`, or 304 when the caller has this version of the build."""
    answer = await build_answer(request, build, headers)
    if answer.status != 200 or not has_it(request, build):
        return answer
    kept = ("ETag", "Cache-Control", "Vary", "Retry-After", "Log-Position", "Preference-Applied")
    return web.Response(status=304, headers={name: answer.headers[name] for name in kept if name in answer.headers})


def has_it(request: web.Request, build: Build) -> bool:
    """Return whether If-None-Match has the build's entity tag."""
    return is_matched(request.headers.getall("If-None-Match", ()), build_tag(build))
