"""Routes of the API, each with its scope and handler."""

from __future__ import annotations

from usage_service.web.api.build_events import get_build_events
from usage_service.web.api.build_requests import post_build, post_retry
from usage_service.web.api.builds import delete_build, get_build, get_builds
from usage_service.web.api.catalogue import get_catalogue
from usage_service.web.api.comparisons import get_changes, get_comparison
from usage_service.web.api.events import post_events
from usage_service.web.api.feed import get_feed
from usage_service.web.api.funnel import get_funnel
from usage_service.web.api.glam_data import post_data, post_labels
from usage_service.web.api.glam_probes import get_glam_probes, get_random_probes, get_updates
from usage_service.web.api.glam_usage import get_usage
from usage_service.web.api.health import get_heartbeat, get_lbheartbeat, get_version
from usage_service.web.api.hidden_probes import delete_hidden, get_hidden, put_hidden
from usage_service.web.api.hotlist import get_hotlist
from usage_service.web.api.hotlist_backtest import get_backtest
from usage_service.web.api.hotlist_built import post_built
from usage_service.web.api.hotlist_experiment import get_experiment
from usage_service.web.api.hotlist_rules import delete_rule, get_rules, put_rule
from usage_service.web.api.hotlist_runs import get_run, post_hotlist
from usage_service.web.api.journeys import get_journeys
from usage_service.web.api.log import get_events
from usage_service.web.api.metrics import get_metrics
from usage_service.web.api.misses import get_misses
from usage_service.web.api.nights import delete_night, get_night, get_night_probes, get_nights
from usage_service.web.api.popularity import get_popularity
from usage_service.web.api.prefetching import post_prefetch
from usage_service.web.api.probes import get_probe
from usage_service.web.api.products import get_products
from usage_service.web.api.projections import get_projections
from usage_service.web.api.releases import get_probe_effects, get_release_impact, get_version_moves
from usage_service.web.api.restoring import post_restore
from usage_service.web.api.returning import get_returning
from usage_service.web.api.session_summaries import get_session_summary
from usage_service.web.api.sessions import get_session, get_sessions, get_typical_session
from usage_service.web.api.statements import get_statement
from usage_service.web.api.timeseries import get_timeseries
from usage_service.web.api.together import get_together
from usage_service.web.api.unused import get_unused
from usage_service.web.openapi.documentation import get_docs, get_openapi
from usage_service.web.openapi.operations import Route

__all__ = ["ROUTES", "Route"]

ROUTES = (
    Route("POST", "/v1/events", "events", post_events),
    Route("GET", "/v1/events", "read", get_events),
    Route("POST", "/v1/events/restore", "admin", post_restore),
    Route("GET", "/v1/popularity", "read", get_popularity),
    Route("GET", "/v1/unused", "read", get_unused),
    Route("GET", "/v1/hidden", "read", get_hidden),
    Route("PUT", "/v1/hidden/{pattern}", "admin", put_hidden),
    Route("DELETE", "/v1/hidden/{pattern}", "admin", delete_hidden),
    Route("GET", "/v1/hotlist", "read", get_hotlist),
    Route("POST", "/v1/hotlist", "build", post_hotlist),
    Route("POST", "/v1/hotlist/built", "events", post_built),
    Route("GET", "/v1/hotlist/backtest", "read", get_backtest),
    Route("GET", "/v1/hotlist/experiment", "read", get_experiment),
    Route("GET", "/v1/hotlist/rules", "read", get_rules),
    Route("PUT", "/v1/hotlist/rules/{product}/{probe}", "admin", put_rule),
    Route("DELETE", "/v1/hotlist/rules/{product}/{probe}", "admin", delete_rule),
    Route("GET", "/v1/hotlist/{run}", "read", get_run),
    Route("GET", "/v1/timeseries", "read", get_timeseries),
    Route("GET", "/v1/sessions", "read", get_sessions),
    Route("GET", "/v1/sessions/summary", "read", get_session_summary),
    Route("GET", "/v1/sessions/typical", "read", get_typical_session),
    Route("GET", "/v1/sessions/{visitor}/{started_at}", "read", get_session),
    Route("GET", "/v1/journeys", "read", get_journeys),
    Route("GET", "/v1/funnel", "read", get_funnel),
    Route("GET", "/v1/returning", "read", get_returning),
    Route("GET", "/v1/releases/impact", "read", get_release_impact),
    Route("GET", "/v1/releases/probes", "read", get_probe_effects),
    Route("GET", "/v1/releases/distributions", "read", get_version_moves),
    Route("GET", "/v1/products", "read", get_products),
    Route("GET", "/v1/projections", "read", get_projections),
    Route("POST", "/v1/builds", "build", post_build),
    Route("GET", "/v1/builds", "read", get_builds),
    Route("POST", "/v1/builds/prefetch", "build", post_prefetch),
    Route("GET", "/v1/builds/{build_id}", "read", get_build),
    Route("DELETE", "/v1/builds/{build_id}", "build", delete_build),
    Route("GET", "/v1/builds/{build_id}/statement", "read", get_statement),
    Route("GET", "/v1/builds/{build_id}/events", "read", get_build_events),
    Route("POST", "/v1/builds/{build_id}/retry", "admin", post_retry),
    Route("GET", "/v1/nights", "read", get_nights),
    Route("GET", "/v1/nights/{night_id}", "read", get_night),
    Route("DELETE", "/v1/nights/{night_id}", "build", delete_night),
    Route("GET", "/v1/nights/{night_id}/probes", "read", get_night_probes),
    Route("GET", "/v1/probes", "read", get_catalogue),
    Route("GET", "/v1/probes/{product}/{probe}", "read", get_probe),
    Route("GET", "/v1/probes/{product}/{probe}/together", "read", get_together),
    Route("GET", "/v1/probes/{product}/{probe}/comparison", "read", get_comparison),
    Route("GET", "/v1/probes/{product}/{probe}/changes", "read", get_changes),
    Route("GET", "/v1/probes/{product}/{probe}/misses", "read", get_misses),
    Route("GET", "/feeds/{token}", "feed", get_feed),
    Route("GET", "/api/v1/usage/", "read", get_usage),
    Route("POST", "/api/v1/data/", "read", post_data),
    Route("POST", "/api/v1/labels/", "read", post_labels),
    Route("GET", "/api/v1/probes/", "read", get_glam_probes),
    Route("GET", "/api/v1/probes/random/", "read", get_random_probes),
    Route("GET", "/api/v1/updates/", "read", get_updates),
    Route("GET", "/metrics", "read", get_metrics),
    Route("GET", "/openapi.json", "open", get_openapi),
    Route("GET", "/docs", "open", get_docs),
    Route("GET", "/__heartbeat__", "open", get_heartbeat),
    Route("GET", "/__lbheartbeat__", "open", get_lbheartbeat),
    Route("GET", "/__version__", "open", get_version),
)
