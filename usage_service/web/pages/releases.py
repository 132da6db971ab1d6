"""GET /releases: views over a short and a long period, the effect of each release, and the probes that one moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from usage_service.events import Channel
from usage_service.problems import FieldError, invalid
from usage_service.web.api.popularity import VIEW_COUNTS
from usage_service.web.api.probes import VersionNumber
from usage_service.web.api.releases import CompareDays, ImpactQuestion, ProbeEffectsQuestion, VersionMovesQuestion
from usage_service.web.pages.filters import Filters, ViewParameters, view_parameters
from usage_service.web.pages.frame import begin
from usage_service.web.pages.overview import ViewedDaysQuestion, series_question
from usage_service.web.pages.panels import Panel, ask, ask_all, how_fresh, html_answer
from usage_service.web.pages.presentation.overview import release_marks, views_over_time
from usage_service.web.pages.presentation.recorded import Recorded
from usage_service.windows import Time

SHORT_DAYS, LONG_DAYS, MARKS, PROBES = 7, 28, 50, 50


class ReleasesView(ViewParameters, kw_only=True, forbid_unknown_fields=True):
    """Mark of which to show the probes: when it was and of which channel; by default the latest release.

    `days` before and after it are compared.
    """

    at: Time | None = None
    of: Channel | None = None
    days: CompareDays = SHORT_DAYS


class VersionMovesView(ViewParameters, kw_only=True, forbid_unknown_fields=True):
    """Version, and the channel that got it."""

    of: Channel
    version: VersionNumber


async def get_releases_page(request: web.Request) -> web.Response:
    """Answer with views over the days and the year up to them, and the year's marks; the page loads probes later."""
    asked = view_parameters(request, ReleasesView)
    page = await begin(request, asked)
    filters, year = page.filters, replace(page.filters, window="365d", first_day=None)
    panels = await ask_all(
        request,
        short=series_question(filters),
        long=series_question(year),
        effects=_effects_question(year, SHORT_DAYS),
        long_effects=_effects_question(year, LONG_DAYS),
        viewed=ViewedDaysQuestion(filters.product, filters.channel),
    )
    marks: list[dict[str, Any]] = panels["effects"].data["releases"] if panels["effects"].data else []
    chosen = _chosen(marks, asked)
    return await page.shown(
        "releases",
        panels,
        fresh=await how_fresh(request),
        periods=[_period(filters, panels["short"], marks), _period(year, panels["long"], marks)],
        rows=_rows(marks, panels["long_effects"]),
        recorded=Recorded.of(panels["viewed"].data, filters.days),
        chosen=chosen,
        days=asked.days,
        choices=(SHORT_DAYS, LONG_DAYS),
    )


def _effects_question(year: Filters, days: int) -> ImpactQuestion:
    return ImpactQuestion(year.marks, year.time_range, year.product, year.channel, days, year.today, MARKS)


def _chosen(marks: Sequence[dict[str, Any]], asked: ReleasesView) -> dict[str, Any] | None:
    """Return the mark that is asked for, else that of the latest ones with days after it which most people viewed."""
    if asked.at is not None:
        at = asked.at.astimezone(UTC)
        found = (mark for mark in marks if datetime.fromisoformat(mark["published_at"]) == at)
        known = next((mark for mark in found if asked.of in (None, mark["channel"])), None)
        return known or {"channel": asked.of, "version": None, "label": None, "published_at": at.isoformat()}
    latest = [mark for mark in marks if mark["days_after"]] or marks
    return max(latest, key=lambda mark: (mark["published_at"], mark["views_after"]), default=None)


def _period(filters: Filters, series: Panel, marks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a period with its days, views and marks."""
    within = [
        mark for mark in marks
        if filters.days.first <= datetime.fromisoformat(mark["published_at"]).date() <= filters.days.last
    ]  # fmt: skip
    views = views_over_time(series.data["series"][0]["buckets"]) if series.data else []
    drawn = {"views": views, "marks": release_marks({"releases": within}, filters.length)}
    return drawn | {"length": filters.length, "step": filters.step}


def _rows(marks: Sequence[dict[str, Any]], long: Panel) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Return each mark with its effect over the short and over the long period."""
    others = {_key(mark): mark for mark in (long.data["releases"] if long.data else [])}
    return [(mark, others.get(_key(mark))) for mark in marks]


def _key(mark: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple(mark[name] for name in ("product", "channel", "version", "published_at"))


async def get_probe_effects_section(request: web.Request) -> web.Response:
    """Answer with the section of the probes whose views a mark moved, which takes longer than the page."""
    asked = view_parameters(request, ReleasesView)
    filters = (await begin(request, asked)).filters
    if asked.at is None:
        raise invalid([FieldError(parameter="at", detail="name the instant of the mark")])
    at = asked.at.astimezone(UTC)
    only = (filters.product, asked.of, None, at, asked.days, filters.today, PROBES)
    question = ProbeEffectsQuestion(*only, request.app[VIEW_COUNTS])
    return await html_answer(request, "probe_effects", {"moved": await ask(request, question), "filters": filters})


async def get_version_moves_section(request: web.Request) -> web.Response:
    """Answer with the section of the probes whose distributions a version moved, which takes longer than the page."""
    asked = view_parameters(request, VersionMovesView)
    filters = (await begin(request, asked)).filters
    question = VersionMovesQuestion(filters.product, asked.of, asked.version, PROBES)
    context = {"moves": await ask(request, question), "filters": filters, "channel": asked.of}
    return await html_answer(request, "version_moves", context)
