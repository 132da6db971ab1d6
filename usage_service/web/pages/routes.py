"""Routes of the pages, each with its scope; they are not part of the API and its description."""

from __future__ import annotations

from usage_service.web.openapi.operations import Route
from usage_service.web.pages.assets import get_asset
from usage_service.web.pages.builds import get_builds_page, get_statement_section
from usage_service.web.pages.hotlist import get_backtest_section, get_experiment_section, get_hotlist_page
from usage_service.web.pages.login import delete_login, get_login, post_login
from usage_service.web.pages.nights import get_night_page, get_nights_page
from usage_service.web.pages.overview import get_overview
from usage_service.web.pages.probe import get_probe_page, get_waiting_section
from usage_service.web.pages.probe_comparison import get_comparison_page
from usage_service.web.pages.releases import get_probe_effects_section, get_releases_page, get_version_moves_section
from usage_service.web.pages.search import get_found, get_probes
from usage_service.web.pages.sessions import (
    get_habits_section,
    get_journeys_section,
    get_session_page,
    get_sessions_page,
)
from usage_service.web.pages.unused import get_unused_page

PAGE_ROUTES = (
    Route("GET", "/", "read", get_overview),
    Route("GET", "/probes", "read", get_probes),
    Route("GET", "/probes/found", "read", get_found),
    Route("GET", "/probes/{product}/{probe}", "read", get_probe_page),
    Route("GET", "/probes/{product}/{probe}/waiting", "read", get_waiting_section),
    Route("GET", "/probes/{product}/{probe}/comparison", "read", get_comparison_page),
    Route("GET", "/builds", "read", get_builds_page),
    Route("GET", "/builds/{build_id}/statement", "read", get_statement_section),
    Route("GET", "/nights", "read", get_nights_page),
    Route("GET", "/nights/{night_id}", "read", get_night_page),
    Route("GET", "/hotlist", "read", get_hotlist_page),
    Route("GET", "/hotlist/backtest", "read", get_backtest_section),
    Route("GET", "/hotlist/experiment", "read", get_experiment_section),
    Route("GET", "/unused", "read", get_unused_page),
    Route("GET", "/sessions", "read", get_sessions_page),
    Route("GET", "/sessions/journeys", "read", get_journeys_section),
    Route("GET", "/sessions/habits", "read", get_habits_section),
    Route("GET", "/sessions/{visitor}/{started_at}", "read", get_session_page),
    Route("GET", "/releases", "read", get_releases_page),
    Route("GET", "/releases/probes", "read", get_probe_effects_section),
    Route("GET", "/releases/distributions", "read", get_version_moves_section),
    Route("GET", "/login", "open", get_login),
    Route("POST", "/login", "open", post_login),
    Route("DELETE", "/login", "open", delete_login),
    Route("GET", "/assets/{digest}/{name}", "open", get_asset),
)
