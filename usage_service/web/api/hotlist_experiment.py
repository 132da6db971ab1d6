"""GET /v1/hotlist/experiment: what other ways to choose would have caught and cost since any date."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.events import Product
from usage_service.hotlist.backtest.replaying import BUDGETS
from usage_service.hotlist.experiment import Experiment, read_experiment
from usage_service.problems import FieldError, invalid
from usage_service.web.answers import json_answer
from usage_service.web.api.hotlist import prices_of
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import described, ok
from usage_service.web.parameters import query_parameters
from usage_service.windows import Time, no_days

EARLIEST = date(1970, 1, 1)


class ExperimentParameters(msgspec.Struct, forbid_unknown_fields=True):
    """Product, the days to sum up (all, by default), and one of the budgets that are kept (all, by default)."""

    product: Product
    since: Time | None = None
    until: Time | None = None
    budget: Annotated[int, Meta(ge=1, le=10_000)] | None = None


@described(ok(Experiment, "Log-Position", "Cache-Control"), query=ExperimentParameters, table="policies")
async def get_experiment(request: web.Request) -> web.Response:
    """Get what each policy would have caught and cost, night by night added up.

    The table is filled every half an hour by the code that makes the hot list. Log-Position is how far it has seen.
    """
    asked = query_parameters(request, ExperimentParameters)
    if asked.budget not in (None, *BUDGETS):
        raise invalid([FieldError(parameter="budget", detail=f"must be one of {', '.join(map(str, BUDGETS))}")])
    first = asked.since.astimezone(UTC).date() if asked.since else EARLIEST
    last = (asked.until.astimezone(UTC) - timedelta(microseconds=1)).date() if asked.until else datetime.now(UTC).date()
    if last < first:
        raise no_days(asked.until)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        found = await read_experiment(connection, asked.product, first, last, asked.budget, prices_of(request))
    return json_answer(found, position=found.log_position or 0, headers={"Cache-Control": "no-cache"})
