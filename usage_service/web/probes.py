"""GET /v1/probes/{product}/{probe}: a probe's aggregates."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.builds import near_names
from usage_service.events import Channel, ProbeName, Product
from usage_service.probes import RowFilter, find_result, is_known, probe_rows
from usage_service.problems import Problem
from usage_service.projections import snapshot
from usage_service.web.answers import json_answer
from usage_service.web.keys import service_of
from usage_service.web.parameters import parameters_from, query_parameters

Filter = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00]*$")]


class ProbePath(msgspec.Struct):
    """The probe that the path names."""

    product: Product
    probe: ProbeName


class ProbeParameters(msgspec.Struct, forbid_unknown_fields=True):
    """The channel, and which of the rows; `*` stands for all pings, systems or builds together."""

    channel: Channel
    version: Annotated[int, Meta(ge=0, le=100_000)] | None = None
    ping_type: Filter | None = None
    os: Filter | None = None
    build_id: Filter | None = None
    metric_key: Filter | None = None
    client_agg_type: Filter | None = None


async def get_probe(request: web.Request) -> web.Response:
    """The rows of a probe; 404 with a link to ask for them where it was never built."""
    path = parameters_from(dict(request.match_info), ProbePath)
    asked = query_parameters(request, ProbeParameters)
    only = msgspec.convert(msgspec.structs.asdict(asked), RowFilter)
    async with snapshot(service_of(request).pool, "catalogue") as seen:
        result = await find_result(seen.connection, path.product, path.probe, asked.channel)
        if result is None:
            known = await is_known(seen.connection, path.product, path.probe)
            near = [] if known else await near_names(seen.connection, path.product, path.probe)
            raise _not_built(path, asked.channel, known, near)
        rows = await probe_rows(seen.connection, path.product, path.probe, asked.channel, only)
    body = {
        "product": path.product,
        "channel": asked.channel,
        "probe": path.probe,
        "state": result.state,
        "built_by": result.build_id,
        "built_at": result.finished_at,
        "rows": rows,
    }
    return json_answer(body, position=result.log_position)


def _not_built(path: ProbePath, channel: str, known: bool, near: list[str]) -> Problem:
    if not known:
        detail = f"{path.product} has no probe {path.probe}"
        hint = f"; did you mean {near[0]}?" if near else ""
        return Problem(404, "Unknown probe", detail + hint, near_names=near)
    wanted = {"product": path.product, "channel": channel, "probe": path.probe}
    return Problem(
        404,
        "Not built yet",
        f"{path.probe} was never built for {path.product} {channel}; POST this `request` to /v1/builds to ask for it",
        headers={"Link": '</v1/builds>; rel="create-form"'},
        request=wanted,
    )
