"""GET /sessions: statistics of sessions and the latest ones; /sessions/{visitor}/{started_at}: one session's events."""

from __future__ import annotations

from datetime import UTC

from aiohttp import web

from usage_service.problems import Problem
from usage_service.stats.journeys import Kind
from usage_service.web.api.journeys import JourneysQuestion
from usage_service.web.api.session_summaries import SummaryQuestion
from usage_service.web.api.sessions import SessionPath, SessionsQuestion, TimelineQuestion
from usage_service.web.pages.filters import ViewParameters, view_parameters
from usage_service.web.pages.frame import begin
from usage_service.web.pages.overview import ViewedDaysQuestion
from usage_service.web.pages.panels import ask, ask_all, how_fresh, html_answer
from usage_service.web.pages.presentation.recorded import Recorded
from usage_service.web.pages.presentation.sessions import depths, not_recorded, roles_over_time, transition_matrix
from usage_service.web.parameters import parameters_from

LATEST, MOST_USED, MOST_TRANSITIONS, MOST_EVENTS = 25, 10, 200, 500


class SessionsView(ViewParameters, kw_only=True, forbid_unknown_fields=True):
    """Kind of the steps in the matrix."""

    kind: Kind = "all"


async def get_sessions_page(request: web.Request) -> web.Response:
    """Answer with length, depth and roles, and the latest sessions; the page loads the matrix of steps later."""
    asked = view_parameters(request, SessionsView)
    page = await begin(request, asked)
    filters = page.filters
    product = filters.product or None
    panels = await ask_all(
        request,
        summary=SummaryQuestion((filters.time_range,), product, "exclude", filters.interval, MOST_USED),
        viewed=ViewedDaysQuestion(filters.product, None),
        latest=SessionsQuestion(filters.time_range, product, "exclude", LATEST),
    )
    drawn: dict[str, object] = {"fresh": await how_fresh(request), "kind": asked.kind}
    drawn |= {"recorded": Recorded.of(panels["viewed"].data, filters.days)}
    if panels["summary"].data:
        summary = panels["summary"].data["summary"]
        drawn |= {"roles": roles_over_time(summary), "not_recorded": not_recorded(summary)}
        drawn |= {"depths": depths(summary["probes_a_session"], summary["sessions_looked_at"])}
    return await page.shown("sessions", panels, **drawn)


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
