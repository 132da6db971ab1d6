"""POST /v1/builds/prefetch: a night of the hot list's probes, or of others that are named."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.builds.nights import MOST_PROBES, NightRequest, request_night
from usage_service.events import Channel, ProbeName, Product
from usage_service.hotlist.budgets import UNITS, NothingKnownError, read_budget
from usage_service.hotlist.listing import HotProbe, read_for_list
from usage_service.hotlist.runs import find_run
from usage_service.problems import FieldError, invalid
from usage_service.projections.state import snapshot
from usage_service.shared.patterns import worded
from usage_service.shared.settings import MOST_BYTES
from usage_service.web.access import source_of
from usage_service.web.answers import json_answer
from usage_service.web.api.hotlist import HISTORIES, READS, no_costs, prices_of, wanted_of
from usage_service.web.api.hotlist_runs import RunName
from usage_service.web.api.known_names import refuse_unknown
from usage_service.web.bodies import json_body
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import described, json_of, ok

DEFAULT_BUDGET = 100
NAMED = {"listed": "created"}  # outcomes, as they are answered

NightBudget = (
    Annotated[int, Meta(ge=1, le=MOST_PROBES)]
    | Annotated[
        str,
        Meta(
            pattern=worded(
                rf"^(auto|1000|[1-9][0-9]{{0,2}}|(?=.*[1-9].*[A-Za-z])[0-9]{{1,9}}([.][0-9]{{1,6}})?{UNITS})(?!\n)$",
                "a number of probes from 1 to 1,000, an amount such as 500GB, 2TiB or 2.50USD, or auto",
            ),
            description="the largest number of probes; or what may be read (500GB, 2TiB) or paid (2.50USD); or `auto`",
        ),
    ]
)


class PrefetchRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Probes of a night, named in one of three ways, and the bytes it may read (by default what is left of the day).

    `budget` is for the hot list of now, 100 probes by default; `list` names a run whose hot list was kept; `probes`
    names them.
    """

    product: Product
    channel: Channel
    budget: NightBudget | None = None
    list: RunName | None = None
    probes: Annotated[tuple[ProbeName, ...], Meta(min_length=1, max_length=MOST_PROBES)] | None = None
    most_bytes: Annotated[int, Meta(ge=0, le=MOST_BYTES)] | None = None


class PrefetchAnswer(msgspec.Struct, frozen=True):
    """Night that builds the probes, whether it is new, and how many probes it has with each outcome.

    `created` are to be built; `left` do not fit into the bytes that it may read. The others are not to be built.
    """

    night_id: UUID
    is_new: bool
    asked: int
    outcomes: dict[str, int]


@described(
    ok(PrefetchAnswer, "Location", status=202, means="the night is at Location"), body=(json_of(PrefetchRequest),)
)
async def post_prefetch(request: web.Request) -> web.Response:
    """Request a night: the probes of a list are built in as few warehouse jobs as possible.

    A builder plans the night, and leaves what does not fit into its bytes. While a night of the channel is under way,
    that one is answered, with its own outcomes.
    """
    asked = await json_body(request, PrefetchRequest)
    wanted = await _wanted(request, asked)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        await refuse_unknown(connection, asked.product, asked.channel)
        night = await request_night(connection, wanted, source_of(request))
    outcomes = dict.fromkeys(("created", "pending", "fresh", "unknown", "unbuildable", "excluded", "left"), 0)
    outcomes |= {NAMED.get(outcome, outcome): number for outcome, number in night.outcomes.items()}
    answer = PrefetchAnswer(night.night_id, night.is_new, sum(outcomes.values()), outcomes)
    return json_answer(answer, status=202, headers={"Location": f"/v1/nights/{night.night_id}"})


async def _wanted(request: web.Request, asked: PrefetchRequest) -> NightRequest:
    """Return the night that is asked for; raise a Problem (422) where that cannot be told."""
    given = [name for name in ("probes", "list", "budget") if getattr(asked, name) is not None]
    if len(given) > 1:
        detail = f"cannot be given beside {given[0]}: each of them says which probes the night is for"
        raise invalid([FieldError(pointer=f"/{given[1]}", detail=detail)])
    if asked.probes is not None:
        probes = asked.probes
        return NightRequest(asked.product, asked.channel, probes, [None] * len(probes), asked.most_bytes)
    if asked.list is not None:
        return _of_hot(asked, await _kept(request, asked.product, asked.list), asked.most_bytes)
    return await _hot(request, asked)


async def _hot(request: web.Request, asked: PrefetchRequest) -> NightRequest:
    """Return the night of the hot list of now.

    What is to be read or paid at most is kept by the planner, who knows by dry runs what probes cost together: it gets
    the longest list.
    """
    budget = read_budget(asked.budget or DEFAULT_BUDGET, prices_of(request))
    wanted = wanted_of(request, asked.product, MOST_PROBES if budget.bytes is not None else budget.asked)
    async with snapshot(service_of(request).pool, *READS) as seen:
        make = await read_for_list(seen.connection, request.app[HISTORIES], wanted)
    try:
        hot = await asyncio.to_thread(make)
    except NothingKnownError as error:
        raise invalid([FieldError(pointer="/budget", detail=no_costs(error))]) from None
    limits = [limit for limit in (budget.bytes, asked.most_bytes) if limit is not None]
    return _of_hot(asked, hot.probes, min(limits, default=None))


async def _kept(request: web.Request, product: str, name: str) -> list[HotProbe]:
    """Return the probes of a product in the list that was kept for a run."""
    async with service_of(request).pool.acquire(timeout=5) as connection:
        run = await find_run(connection, name)
    if run is None:
        detail = f"no list was made for {name}; POST /v1/hotlist makes one"
    elif run.list.product not in (None, product):
        detail = f"the list of {name} is of {run.list.product}, not of {product}"
    else:
        return [hot for hot in run.list.probes if hot.product == product]
    raise invalid([FieldError(pointer="/list", detail=detail)])


def _of_hot(asked: PrefetchRequest, hot: list[HotProbe], most_bytes: int | None) -> NightRequest:
    first = hot[:MOST_PROBES]
    requests = [one.worth.requests if one.worth else None for one in first]
    return NightRequest(asked.product, asked.channel, [one.probe for one in first], requests, most_bytes)
