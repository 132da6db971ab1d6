"""The probes of the sample pings: real names of Firefox, with made-up but plausible values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from builder.buckets import exponential_buckets, functional_buckets, linear_buckets

BOUNDS = {
    "timing_distribution": functional_buckets(2, 8, 2**36),
    "memory_distribution": functional_buckets(2, 16, 2**36),
}


@dataclass(frozen=True)
class Probe:
    """A probe: how often a ping carries it, and around which value, by system and by build.

    `centre` and `spread` are buckets of a distribution, else the value itself. `windows` and `mac` move the centre
    on these systems; `regression` moves it from the 16th build to the 23rd, where it was fixed.
    """

    name: str
    type: str
    centre: float = 1
    spread: float = 1
    presence: float = 0.6
    windows: float = 0
    mac: float = 0
    regression: float = 0
    labels: tuple[str, ...] = ()
    bounds: tuple[int, ...] = ()
    only_clients_below: int | None = None

    def buckets(self) -> list[int]:
        """The lower bounds of a distribution's buckets."""
        return list(self.bounds) or BOUNDS[self.type]


_timing = partial(Probe, type="timing_distribution", spread=10)
_memory = partial(Probe, type="memory_distribution", spread=16)


def _custom(name: str, bounds: list[int], centre: float, windows: float = 0, regression: float = 0) -> Probe:
    kind, spread = "custom_distribution", len(bounds) / 6
    return Probe(name, kind, centre, spread, windows=windows, regression=regression, bounds=tuple(bounds))


def _labeled(name: str, kind: str, *labels: str, regression: float = 0) -> Probe:
    return Probe(name, kind, centre=3, spread=4, labels=labels, regression=regression)


PROBES = [
    _timing("performance_page_total_content_page_load", centre=176, windows=2, mac=-4, regression=5),
    _timing("performance_pageload_fcp", centre=168, windows=2, mac=-3),
    _timing("networking_dns_lookup_time", centre=150, windows=4),
    _timing("networking_transaction_wait_time", centre=156),
    _timing("wr_renderer_time", centre=128, mac=6, regression=7),
    _timing("gfx_composite_time", centre=120, mac=8),
    _timing("layout_refresh_driver_tick", centre=124, windows=3),
    _timing("fog_initializations", centre=140, presence=0.3),
    Probe("gfx_checkerboard_duration", "timing_distribution", 150, spread=8, only_clients_below=6),
    _memory("memory_total", centre=476, windows=8, mac=12, regression=6),
    _memory("memory_unique_content_startup", centre=430, mac=10),
    _memory("networking_cache_metadata_size", centre=220),
    _memory("glean_database_size", centre=260, presence=0.3),
    _custom("browser_engagement_tab_count", exponential_buckets(1, 10_000, 100), 20),
    _custom("places_bookmarks_count", exponential_buckets(1, 8_000, 20), 9),
    _custom("javascript_gc_mark_rate", linear_buckets(1, 100, 50), 25, windows=-3, regression=-8),
    _custom("http_request_per_page", exponential_buckets(1, 1_000, 50), 24),
    Probe("downloads_panel_shown", "counter", 2, spread=6, presence=0.4),
    Probe("downloads_file_opened", "counter", 3, spread=9, presence=0.5, windows=2, regression=6),
    Probe("browser_engagement_bookmarks_toolbar_bookmark_added", "counter", 1, spread=3, presence=0.1),
    Probe("findbar_match_diacritics", "counter", 1, spread=2, only_clients_below=6),
    Probe("system_cpu_logical_cores", "quantity", 4, spread=12, presence=1, mac=4),
    Probe("gfx_target_frame_rate", "quantity", 60, spread=60),
    Probe("extensions_startup_cache_load_time", "timespan", 30, spread=400, windows=20, regression=200),
    Probe("fog_initialization", "timespan", 2, spread=40),
    Probe("fxa_sync_enabled", "boolean", 0.4),
    Probe("widget_dark_mode", "boolean", 0.5, windows=-0.1, mac=0.2, regression=0.15),
    _labeled("startup_cache_requests", "labeled_counter", "hit_disk", "hit_memory", "miss", regression=9),
    _labeled("javascript_gc_reason", "labeled_counter", "ALLOC_TRIGGER", "CC_FINISHED", "EAGER_ALLOC_TRIGGER", "IDLE"),
    _labeled("data_storage_migration", "labeled_boolean", "AlternateServices", "SiteSecurityServiceState"),
]
