"""GET /sessions: statistics of sessions and the latest ones; /sessions/{visitor}/{started_at}: one session's events."""

from __future__ import annotations

from datetime import UTC

from aiohttp import web

from usage_service.cursors import CursorText
from usage_service.problems import Problem
from usage_service.stats.funnel import DEFAULT_STEPS
from usage_service.stats.journeys import Kind
from usage_service.stats.returning import whole_weeks
from usage_service.stats.sessions import SessionCursor
from usage_service.web.api.funnel import FunnelQuestion, Steps
from usage_service.web.api.journeys import JourneysQuestion
from usage_service.web.api.returning import ReturningQuestion
from usage_service.web.api.session_summaries import SummaryQuestion
from usage_service.web.api.sessions import SessionPath, SessionsQuestion, TimelineQuestion, TypicalQuestion
from usage_service.web.pages.filters import ViewParameters, view_parameters
from usage_service.web.pages.frame import begin
from usage_service.web.pages.overview import ViewedDaysQuestion
from usage_service.web.pages.panels import ask, ask_all, following_cursor, how_fresh, html_answer
from usage_service.web.pages.presentation.recorded import Recorded
from usage_service.web.pages.presentation.sessions import (
    STEPS,
    depths,
    not_recorded,
    roles_over_time,
    sessions_changed,
    transition_matrix,
    typical_session,
)
from usage_service.web.parameters import cursor_of, parameters_from

LATEST, MOST_USED, MOST_TRANSITIONS, MOST_EVENTS, MOST_OF_EXAMPLE = 25, 10, 200, 500, 30


class SessionsView(ViewParameters, kw_only=True, forbid_unknown_fields=True):
    """Kind of the steps in the matrix, the steps of the funnel, and the cursor at which the latest sessions go on."""

    kind: Kind = "all"
    step: Steps = DEFAULT_STEPS
    cursor: CursorText | None = None


async def get_sessions_page(request: web.Request) -> web.Response:
    """Answer with length, depth and roles, and the latest sessions; the page loads what takes longer later."""
    asked = view_parameters(request, SessionsView)
    page = await begin(request, asked)
    filters = page.filters
    product = filters.product or None
    ranges = (filters.time_range, filters.compared.time_range) if filters.compared else (filters.time_range,)
    panels = await ask_all(
        request,
        summary=SummaryQuestion(ranges, product, "exclude", filters.interval, MOST_USED),
        typical=TypicalQuestion(filters.time_range, product, "exclude", MOST_OF_EXAMPLE),
        viewed=ViewedDaysQuestion(filters.product, None),
        latest=SessionsQuestion(filters.time_range, product, "exclude", LATEST, cursor_of(asked.cursor, SessionCursor)),
    )
    drawn: dict[str, object] = {"fresh": await how_fresh(request), "kind": asked.kind}
    drawn |= {"steps": () if asked.step == DEFAULT_STEPS else asked.step}
    drawn |= {"following": following_cursor(panels["latest"]), "goes_on": asked.cursor is not None}
    drawn |= {"recorded": Recorded.of(panels["viewed"].data, filters.days), "most": MOST_OF_EXAMPLE}
    if panels["summary"].data:
        summary, before = panels["summary"].data["summary"], panels["summary"].data["compared_with"]
        drawn |= {"roles": roles_over_time(summary), "not_recorded": not_recorded(summary)}
        drawn |= {"depths": depths(summary["probes_a_session"], summary["sessions_read"])}
        drawn |= {"told": typical_session(summary), "before": before}
        drawn |= {"change": sessions_changed(filters.comparison, summary, before)}
    return await page.shown("sessions", panels, **drawn)


async def get_habits_section(request: web.Request) -> web.Response:
    """Answer with the sections of the funnel and of who comes back, which take longer than the page."""
    asked = view_parameters(request, SessionsView)
    filters = (await begin(request, asked)).filters
    product = filters.product or None
    weeks = whole_weeks(filters.since, filters.until, filters.now)
    panels = await ask_all(
        request,
        funnel=FunnelQuestion(filters.time_range, product, "exclude", asked.step or DEFAULT_STEPS),
        returning=ReturningQuestion(weeks, product, "exclude"),
    )
    steps = asked.step or DEFAULT_STEPS
    chosen = {"filters": filters, "kind": asked.kind, "steps": steps, "choices": STEPS}
    return await html_answer(request, "habits", {**panels, **chosen})


async def get_journeys_section(request: web.Request) -> web.Response:
    """Answer with the section of the matrix of steps, which takes longer than the page."""
    asked = view_parameters(request, SessionsView)
    filters = (await begin(request, asked)).filters
    product = filters.product or None
    question = JourneysQuestion(filters.time_range, product, "exclude", asked.kind, 2, MOST_TRANSITIONS)
    journeys = await ask(request, question)
    matrix = transition_matrix(journeys.data["transitions"]) if journeys.data else None
    return await html_answer(request, "journeys", {"journeys": journeys, "matrix": matrix})


async def get_session_page(request: web.Request) -> web.Response:
    """Answer with the page of a session; raise a Problem (404) when there is none, or none any more."""
    path, asked = parameters_from(dict(request.match_info), SessionPath), view_parameters(request, ViewParameters)
    page = await begin(request, asked)
    question = TimelineQuestion(path.visitor, path.started_at.astimezone(UTC), MOST_EVENTS)
    panels = await ask_all(request, found=question)
    if panels["found"].problem:
        raise Problem(404, "Unknown session", "no session of this visitor began then; a late event may have moved it")
    return await page.shown("session", panels, most=MOST_EVENTS, fresh=await how_fresh(request))
