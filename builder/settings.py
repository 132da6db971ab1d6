"""The builder's settings, beside those that it shares with the service."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from usage_service.shared.settings import DatabaseSettings, Port, Seconds

MOST_AT_ONCE = 64


class BuilderSettings(DatabaseSettings, frozen=True, kw_only=True):
    """Environment variables of `probe-builder run`."""

    project: str = msgspec.field(name="GOOGLE_CLOUD_PROJECT", default="moz-fx-data-shared-prod")
    pings_project: str = msgspec.field(name="PROBE_BUILDER_PINGS_PROJECT", default="moz-fx-data-shared-prod")
    sampled_by_clients: str = msgspec.field(name="PROBE_BUILDER_SAMPLED_BY_CLIENTS", default="")  # names, by commas
    location: str = msgspec.field(name="PROBE_BUILDER_LOCATION", default="US")
    warehouse_url: str | None = msgspec.field(name="PROBE_BUILDER_WAREHOUSE_URL", default=None)
    concurrency: Annotated[int, Meta(ge=1, le=MOST_AT_ONCE)] = msgspec.field(
        name="PROBE_BUILDER_CONCURRENCY", default=2
    )
    lease_seconds: Seconds = msgspec.field(name="PROBE_BUILDER_LEASE_SECONDS", default=15)
    poll_seconds: Seconds = msgspec.field(name="PROBE_BUILDER_POLL_SECONDS", default=5)
    retry_seconds: Seconds = msgspec.field(name="PROBE_BUILDER_RETRY_SECONDS", default=2)
    grace_seconds: Seconds = msgspec.field(name="PROBE_BUILDER_GRACE_SECONDS", default=20)
    build_seconds: Seconds = msgspec.field(name="PROBE_BUILDER_BUILD_SECONDS", default=1800)
    most_bytes: Annotated[int, Meta(ge=0)] = msgspec.field(name="PROBE_BUILDER_MOST_BYTES", default=2 * 10**12)
    most_bytes_a_day: Annotated[int, Meta(ge=0, le=10**18)] = msgspec.field(
        name="PROBE_BUILDER_MOST_BYTES_A_DAY", default=20 * 10**12
    )
    metrics_host: str = msgspec.field(name="PROBE_BUILDER_METRICS_HOST", default="127.0.0.1")
    metrics_port: Port = msgspec.field(name="PROBE_BUILDER_METRICS_PORT", default=0)  # 0: no metrics
    threshold_scale: Annotated[float, Meta(gt=0, le=1)] = msgspec.field(
        name="PROBE_BUILDER_THRESHOLD_SCALE", default=1.0
    )


class WarehouseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the commands of the embedded warehouse read from the environment."""

    warehouse_dir: str | None = msgspec.field(name="PROBE_BUILDER_WAREHOUSE_DIR", default=None)
    sample_clients: int = msgspec.field(name="PROBE_BUILDER_SAMPLE_CLIENTS", default=20_000)
