"""The probes of the sample pings: real names of Firefox and Glean, with made-up but plausible values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from usage_service.shared.glean_buckets import exponential_buckets, functional_buckets, linear_buckets

BOUNDS = {"timing": functional_buckets(2, 8, 2**36), "memory": functional_buckets(2, 16, 2**36)}
BOTH = ("fog", "fenix")


@dataclass(frozen=True)
class Range:
    """The definition of a custom distribution's buckets."""

    histogram_type: str
    range_min: int
    range_max: int
    bucket_count: int

    def buckets(self) -> list[int]:
        """Return the lower bounds of the buckets."""
        make = exponential_buckets if self.histogram_type == "exponential" else linear_buckets
        return make(self.range_min, self.range_max, self.bucket_count)


@dataclass(frozen=True)
class Probe:
    """A probe: its definition, the share of pings that carry it, and the values around which they lie.

    `centre` and `spread` are buckets of a distribution, else the value itself. `windows` and `mac` move the centre
    on these systems; `regression` moves it from the 16th build to the 23rd, where it was fixed. A `rare` probe is
    sent by six clients only. `declared` says whether the labels are part of the definition, which also names the unit
    of values that its type does not tell.
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
    inner_labels: tuple[str, ...] = ()
    declared: bool = True
    unit: str | None = None
    range: Range | None = None
    rare: bool = False
    products: tuple[str, ...] = BOTH
    pings: tuple[str, ...] = ("metrics",)

    def buckets(self) -> list[int]:
        """Return the lower bounds of a distribution's buckets."""
        return self.range.buckets() if self.range else BOUNDS[self.type.split("_")[-2]]

    def definition(self) -> dict[str, object]:
        """Return the part of its registration beside type and ping: range, declared labels, and unit."""
        shown = self.range
        of_range: dict[str, object] = {} if shown is None else {**vars(shown)}
        unit = {"unit": self.unit} if self.unit else {}
        return of_range | ({"labels": list(self.labels)} if self.labels and self.declared else {}) | unit


_timing = partial(Probe, type="timing_distribution", spread=10)
_memory = partial(Probe, type="memory_distribution", spread=16)
_counter = partial(Probe, type="counter")
_labeled = partial(Probe, type="labeled_counter", centre=3, spread=4)
_desktop = partial(Probe, products=("fog",))
_mobile = partial(Probe, products=("fenix",))

EVERYWHERE = ("metrics", "baseline")
ENGINES = ("google", "bing", "duckduckgo", "ecosia")


def _custom(
    name: str, bounds: Range, centre: float, unit: str, *, mac: float = 0, windows: float = 0, regression: float = 0
) -> Probe:
    return Probe(
        name, "custom_distribution", centre, spread=bounds.bucket_count / 6, windows=windows, mac=mac,
        regression=regression, unit=unit, range=bounds,
    )  # fmt: skip


PROBES = (
    _timing("performance_page_total_content_page_load", centre=176, windows=2, mac=-4, regression=5),
    _timing("performance_pageload_fcp", centre=168, windows=2, mac=-3),
    _timing("networking_dns_lookup_time", centre=150, windows=4),
    _timing("networking_transaction_wait_time", centre=156),
    _timing("wr_renderer_time", centre=128, mac=6, regression=7),
    _timing("gfx_composite_time", centre=120, mac=8),
    _timing("layout_refresh_driver_tick", centre=124, windows=3),
    _timing("fog_initializations", centre=140, presence=0.3),
    _timing("gfx_checkerboard_duration", centre=150, rare=True),
    _timing("perf_startup_cold_view_app_to_first_frame", centre=190, regression=6, products=("fenix",)),
    _memory("memory_total", centre=476, windows=8, mac=12, regression=6),
    _memory("memory_unique_content_startup", centre=430, mac=10),
    _memory("networking_cache_metadata_size", centre=220),
    _memory("glean_database_size", centre=260, presence=0.3),
    _custom("javascript_gc_mark_rate", Range("linear", 1, 100, 50), 25, "objects/µs", windows=-3, regression=-8),
    _custom("javascript_gc_mmu_50", Range("linear", 1, 100, 20), 12, "percent", mac=2),
    _custom("http_request_per_page", Range("exponential", 1, 1_000, 50), 24, "requests"),
    _custom("gfx_display_scaling", Range("exponential", 1, 10_000, 20), 9, "percent"),
    _desktop("browser_engagement_tab_count", "custom_distribution", 20, 16, range=Range("exponential", 1, 10_000, 100)),
    _desktop("places_bookmarks_count", "custom_distribution", 9, 4, range=Range("exponential", 1, 8_000, 20)),
    _counter("downloads_file_opened", centre=3, spread=9, presence=0.5, windows=2, regression=6),
    _counter("dom_slow_script_page_count", centre=1, spread=20, presence=0.2, regression=9),
    _counter("findbar_match_diacritics", centre=1, spread=2, rare=True),
    _counter("downloads_panel_shown", centre=2, spread=6, presence=0.4, products=("fog",)),
    _counter("browser_engagement_uri_count", centre=10, spread=80, presence=0.8, products=("fog",), pings=EVERYWHERE),
    _counter("browser_engagement_active_ticks", centre=5, spread=300, products=("fog",), pings=EVERYWHERE),
    _counter("events_total_uri_count", centre=4, spread=60, products=("fenix",), pings=EVERYWHERE),
    Probe("system_cpu_logical_cores", "quantity", 4, spread=12, presence=1, mac=4, unit="cores"),
    Probe("gfx_target_frame_rate", "quantity", 60, spread=60, unit="frames a second"),
    Probe("extensions_startup_cache_load_time", "timespan", 30, spread=400, windows=20, regression=200),
    Probe("fog_initialization", "timespan", 2, spread=40),
    Probe("glean_baseline_duration", "timespan", 20, spread=900, presence=0.9, pings=("baseline",)),
    Probe("widget_dark_mode", "boolean", 0.5, windows=-0.1, mac=0.2, regression=0.15),
    Probe("policies_is_enterprise", "boolean", 0.1, windows=0.1, presence=1, pings=EVERYWHERE),
    _desktop("fxa_sync_enabled", "boolean", 0.4),
    _desktop("usage_is_default_browser", "boolean", 0.4, mac=0.1, presence=0.9, pings=("baseline",)),
    _mobile("metrics_default_browser", "boolean", 0.3, presence=0.9, pings=EVERYWHERE),
    _labeled("startup_cache_requests", labels=("hit_disk", "hit_memory", "miss"), regression=9),
    _labeled("javascript_gc_reason", labels=("ALLOC_TRIGGER", "CC_FINISHED", "EAGER_ALLOC_TRIGGER", "IDLE")),
    _labeled("glean_error_invalid_label", labels=("fog.validation", "newtab.opened"), declared=False, presence=0.1,
             pings=EVERYWHERE),
    _labeled("browser_search_with_ads", labels=ENGINES, declared=False, products=("fenix",), pings=EVERYWHERE),
    Probe("data_storage_migration", "labeled_boolean", labels=("AlternateServices", "SiteSecurityServiceState")),
    Probe("cookie_banners_private_window_service_mode", "labeled_boolean", labels=("disabled", "reject")),
    Probe("glean_upload_failures", "dual_labeled_counter", 2, spread=5, labels=("metrics", "baseline", "events"),
          inner_labels=("recoverable", "unrecoverable"), declared=False),
    Probe("devtools_cold_toolbox_open_delay", "labeled_timing_distribution", 200, spread=10, presence=0.2, mac=4,
          labels=("inspector", "webconsole", "jsdebugger"), products=("fog",)),
    Probe("network_http_upload_bandwidth", "labeled_memory_distribution", 300, spread=16, presence=0.3,
          labels=("h1", "h2", "h3")),
    Probe("network_http3_late_ack_ratio", "labeled_custom_distribution", 30, spread=20, presence=0.3, regression=10,
          labels=("ack", "pto"), range=Range("exponential", 1, 2_000, 100)),
)  # fmt: skip


def sample_probes(count: int) -> tuple[Probe, ...]:
    """Return `count` probes: those of PROBES, then copies of them with numbered names."""
    copies = range(-(-count // len(PROBES)))
    return tuple(replace(p, name=f"{p.name}_{n}") if n else p for n in copies for p in PROBES)[:count]
