"""GET /probes/{product}/{probe}/comparison: two choices of a probe's rows in one chart, and the builds that moved."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web
from msgspec.structs import asdict, replace

from usage_service.events import Channel, ProbeName
from usage_service.problems import Problem
from usage_service.stats.choices import Choice
from usage_service.stats.comparisons import FEW_CLIENTS
from usage_service.stats.distributions import ALL
from usage_service.web.answering import Question
from usage_service.web.api.comparisons import ChangesQuestion, ComparisonParameters, comparison_question
from usage_service.web.api.probes import Filter, ProbePath, VersionNumber
from usage_service.web.pages.filters import CHANNELS, ViewParameters, view_parameters
from usage_service.web.pages.frame import begin
from usage_service.web.pages.panels import Panel, ask, ask_all, how_fresh
from usage_service.web.pages.presentation.differences import Drawn
from usage_service.web.pages.presentation.distribution import unit_of_row
from usage_service.web.pages.probe import EntryQuestion
from usage_service.web.pages.rows import NO_ROWS, FacetsQuestion
from usage_service.web.parameters import parameters_from

OTHERS = "with_"


class ComparisonView(ViewParameters, kw_only=True, forbid_unknown_fields=True):
    """Both sides, as the API takes them; by default the newest version and the one before."""

    version: VersionNumber | None = None
    ping_type: Filter = ALL
    os: Filter = ALL
    build_id: Filter = ALL
    metric_key: Filter | None = None
    client_agg_type: Filter | None = None
    with_probe: ProbeName | None = None
    with_channel: Channel | None = None
    with_version: VersionNumber | None = None
    with_ping_type: Filter | None = None
    with_os: Filter | None = None
    with_build_id: Filter | None = None
    with_metric_key: Filter | None = None
    with_client_agg_type: Filter | None = None


async def get_comparison_page(request: web.Request) -> web.Response:
    """Answer with the comparison of two choices of rows, and the builds at which the first one's moved."""
    path, asked = parameters_from(dict(request.match_info), ProbePath), view_parameters(request, ComparisonView)
    page = await begin(request, asked, path.product)
    channel = asked.channel or CHANNELS[0]
    other = asked.with_probe or path.probe, asked.with_channel or channel
    facets = await ask_all(
        request,
        built=FacetsQuestion(path.product, path.probe, channel, NO_ROWS),
        other=FacetsQuestion(path.product, *other, NO_ROWS),
    )
    problem = facets["built"].problem
    if problem and problem["title"] == "Unknown probe":
        raise Problem(404, "Unknown probe", str(problem["detail"]))
    asked = _with_two_sides(asked, facets["built"])
    entry = await ask(request, EntryQuestion(path.product, path.probe))
    panels = await ask_all(request, **_questions(path, asked, channel))
    compared = panels["compared"].data if "compared" in panels else None
    unit = unit_of_row({"client_agg_type": asked.client_agg_type}, (entry.data or {}).get("unit"))
    context: dict[str, Any] = {"probe": path.probe, "channel": channel, "asked": asked, "few": FEW_CLIENTS}
    context |= {
        "drawn": Drawn.of(compared, unit) if compared else None,
        "unit": unit,
        "fresh": await how_fresh(request),
    }
    if "compared" not in panels:
        context["compared"] = None
    return await page.shown("comparison", facets | panels, **context)


def _with_two_sides(asked: ComparisonView, built: Panel) -> ComparisonView:
    """Return what is asked for; where nothing differs, the version before the chosen one beside it, if there is one."""
    if built.data is None or any(value for name, value in asdict(asked).items() if name.startswith(OTHERS)):
        return asked
    versions: list[int] = built.data["facets"]["versions"]
    newest = next((version for version in versions if version == asked.version), next(iter(versions), None))
    older = [version for version in versions if newest is not None and version < newest]
    return replace(asked, version=older[0], with_version=newest) if older else asked


def _questions(path: ProbePath, asked: ComparisonView, channel: str) -> dict[str, Question]:
    given = {name: value for name, value in asdict(asked).items() if name in ComparisonParameters.__struct_fields__}
    side = {name: value for name, value in given.items() if name in Choice.__struct_fields__}
    named = {"product": path.product, "probe": path.probe, "channel": channel}
    questions: dict[str, Question] = {"changes": ChangesQuestion(msgspec.convert(side | named, Choice))}
    if any(value is not None for name, value in given.items() if name.startswith(OTHERS)):
        both = msgspec.convert(given | {"channel": channel}, ComparisonParameters)
        questions["compared"] = comparison_question(path, both)
    return questions
