"""GET /hotlist: the probes worth building and why; /hotlist/backtest: requests that past lists would have caught."""

from __future__ import annotations

from datetime import timedelta

from aiohttp import web

from usage_service.hotlist.backtest.replaying import BUDGETS
from usage_service.hotlist.budgets import DEFAULT_BUDGET, BudgetText
from usage_service.hotlist.experiment import read_experiment
from usage_service.hotlist.rules import find_rules
from usage_service.web.addresses import address, of_days
from usage_service.web.api.hotlist import HISTORIES, HotlistQuestion, prices_of, wanted_of
from usage_service.web.api.hotlist_backtest import NIGHTS, BacktestQuestion
from usage_service.web.keys import service_of
from usage_service.web.pages.filters import ViewParameters, view_parameters
from usage_service.web.pages.frame import begin
from usage_service.web.pages.panels import ask, html_answer
from usage_service.web.pages.presentation.hotlist import coverage_chart, coverage_table, useful_budgets

MOST_ON_SLIDER = 2_000
SHOWN_BUDGETS = (5, 10, *BUDGETS)


class HotlistView(ViewParameters, kw_only=True, forbid_unknown_fields=True):
    """Budget of the list: a number of probes, bytes, money or `auto`."""

    budget: BudgetText = str(DEFAULT_BUDGET)


async def get_hotlist_page(request: web.Request) -> web.Response:
    """Answer with the hot list and the operators' rules; the page loads the backtest later."""
    asked = view_parameters(request, HotlistView)
    page = await begin(request, asked)
    wanted = wanted_of(request, page.filters.product or None, asked.budget)
    number = wanted.budget.probes if not wanted.budget.by_cost else DEFAULT_BUDGET
    async with service_of(request).pool.acquire(timeout=5) as connection:
        rules = await find_rules(connection, page.filters.product or None)
    question = HotlistQuestion(wanted, "json", request.app[HISTORIES])
    ruled: dict[str, object] = {"rules": rules, "pinned": {rule.probe for rule in rules if rule.rule == "pinned"}}
    ruled["rules_address"] = address("/v1/hotlist/rules", product=page.filters.product or None)
    return await page.show(
        "hotlist", {"hot": question}, budget=asked.budget, number=number, most=MOST_ON_SLIDER, **ruled
    )


async def get_backtest_section(request: web.Request) -> web.Response:
    """Answer with the section of the backtest, which takes longer than the page."""
    asked = view_parameters(request, HotlistView)
    page = await begin(request, asked)
    last, histories = page.filters.days.last - timedelta(days=1), request.app[HISTORIES]
    question = BacktestQuestion(page.filters.product or None, NIGHTS, SHOWN_BUDGETS, last, "json", histories)
    found = await ask(request, question)
    number = int(asked.budget) if asked.budget.isdigit() else DEFAULT_BUDGET
    drawn: dict[str, object] = {}
    if found.data:
        drawn = {"drawn": coverage_chart(found.data, [number]), "table": coverage_table(found.data)}
        drawn["budgets"] = useful_budgets(found.data)
    return await html_answer(request, "backtest", {"found": found} | drawn)


async def get_experiment_section(request: web.Request) -> web.Response:
    """Answer with the section of the standing experiment, for the largest kept budget that is not above the list's."""
    asked = view_parameters(request, HotlistView)
    page = await begin(request, asked)
    number = int(asked.budget) if asked.budget.isdigit() else DEFAULT_BUDGET
    kept = max((budget for budget in BUDGETS if budget <= number), default=BUDGETS[0])
    async with service_of(request).pool.acquire(timeout=5) as connection:
        found = await read_experiment(connection, page.filters.product, *page.filters.days, kept, prices_of(request))
    asked_for = {"product": page.filters.product, **of_days(page.filters.days), "budget": kept}
    shown = {"found": found, "kept": kept, "address": address("/v1/hotlist/experiment", **asked_for)}
    return await html_answer(request, "experiment", shown)
