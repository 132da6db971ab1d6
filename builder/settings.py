"""The builder's settings, besides those that it shares with the service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, field

from builder.aggregates.sampling import SAMPLE_IDS, SAMPLED_CHANNELS
from builder.aggregates.source import DATASETS, SourceOptions
from builder.aggregates.thresholds import Thresholds
from usage_service.shared.settings import DATASET, MOST_BYTES, DatabaseSettings, Port, Seconds, SettingsError

MOST_AT_ONCE = 64


def pairs_text(pairs: Mapping[str, object]) -> str:
    """Return the text of a setting of pairs: `a=1,b=2`."""
    return ",".join(f"{name}={value}" for name, value in pairs.items())


def pairs(setting: str, text: str) -> dict[str, str]:
    """Return the pairs in a setting's text; raise SettingsError when it is not of this form."""
    found = dict(part.strip().partition("=")[::2] for part in text.split(",") if part.strip())
    if not all(name and value for name, value in found.items()):
        raise SettingsError(f"{setting}: {text!r} must be pairs such as a=b,c=d")
    return found


class BuilderSettings(DatabaseSettings, frozen=True, kw_only=True):
    """Environment variables of `probe-builder run`."""

    project: Annotated[str, Meta(description="the project that pays for the queries")] = field(
        name="GOOGLE_CLOUD_PROJECT", default="moz-fx-data-shared-prod"
    )
    pings_project: Annotated[str, Meta(description="the project that the pings are in")] = field(
        name="PROBE_BUILDER_PINGS_PROJECT", default="moz-fx-data-shared-prod"
    )
    sampled_by_clients: Annotated[
        str, Meta(description="probes that clients sample themselves, by commas: all of their pings are read")
    ] = field(name="PROBE_BUILDER_SAMPLED_BY_CLIENTS", default="")
    datasets: Annotated[str, Meta(description="the dataset of a product, or of a channel of it")] = field(
        name="PROBE_BUILDER_DATASETS", default=pairs_text(DATASETS)
    )
    sampled_channels: Annotated[
        str, Meta(description="channels of whose Windows clients only so many of the 100 sample ids are read")
    ] = field(name="PROBE_BUILDER_SAMPLED_CHANNELS", default=pairs_text(SAMPLED_CHANNELS))
    location: Annotated[str, Meta(description="where BigQuery runs the queries")] = field(
        name="PROBE_BUILDER_LOCATION", default="US"
    )
    warehouse_url: Annotated[
        str | None, Meta(description="a warehouse that speaks as BigQuery does, instead of it")
    ] = field(name="PROBE_BUILDER_WAREHOUSE_URL", default=None)
    concurrency: Annotated[int, Meta(ge=1, le=MOST_AT_ONCE, description="builds at a time")] = field(
        name="PROBE_BUILDER_CONCURRENCY", default=2
    )
    shared_jobs: Annotated[
        int, Meta(ge=0, le=MOST_AT_ONCE, description="jobs of nights at a time, beside the builds; 0: none")
    ] = field(name="PROBE_BUILDER_SHARED_JOBS", default=2)
    lease_seconds: Annotated[
        Seconds, Meta(description="after so long without a heartbeat a builder counts as dead")
    ] = field(name="PROBE_BUILDER_LEASE_SECONDS", default=15)
    poll_seconds: Annotated[Seconds, Meta(description="how often to poll for builds whose notification was lost")] = (
        field(name="PROBE_BUILDER_POLL_SECONDS", default=5)
    )
    retry_seconds: Annotated[
        Seconds, Meta(description="how long to wait before a second attempt; twice as long before each one after it")
    ] = field(name="PROBE_BUILDER_RETRY_SECONDS", default=2)
    grace_seconds: Annotated[Seconds, Meta(description="for how long a stopping builder goes on with its builds")] = (
        field(name="PROBE_BUILDER_GRACE_SECONDS", default=20)
    )
    build_seconds: Annotated[Seconds, Meta(description="how long an attempt may take")] = field(
        name="PROBE_BUILDER_BUILD_SECONDS", default=1800
    )
    most_bytes: Annotated[int, Meta(ge=0, le=MOST_BYTES, description="bytes that one build may read")] = field(
        name="PROBE_BUILDER_MOST_BYTES", default=2 * 10**12
    )
    most_bytes_together: Annotated[
        int,
        Meta(ge=0, le=MOST_BYTES, description="bytes that one job of a night may read, where it is of several probes"),
    ] = field(name="PROBE_BUILDER_MOST_BYTES_TOGETHER", default=2 * 10**12)
    most_bytes_a_day: Annotated[
        int, Meta(ge=0, le=MOST_BYTES, description="bytes that all builds of a day may read")
    ] = field(name="PROBE_BUILDER_MOST_BYTES_A_DAY", default=20 * 10**12)
    sink_dataset: Annotated[
        Annotated[str, Meta(pattern=DATASET)] | None,
        Meta(description="a dataset with GLAM's own tables, as project.dataset: rows go there, too"),
    ] = field(name="PROBE_BUILDER_SINK_DATASET", default=None)
    sink_seconds: Annotated[
        Seconds, Meta(description="for how long rows may wait to go there, so that more builds share one MERGE")
    ] = field(name="PROBE_BUILDER_SINK_SECONDS", default=600)
    metrics_host: Annotated[str, Meta(description="the address to serve metrics on")] = field(
        name="PROBE_BUILDER_METRICS_HOST", default="127.0.0.1"
    )
    metrics_port: Annotated[Port, Meta(description="the port to serve metrics on; 0: no metrics")] = field(
        name="PROBE_BUILDER_METRICS_PORT", default=0
    )
    minimums: Annotated[
        str,
        Meta(
            description="clients of a build/users of a row to be exceeded: fog/release=450000/100,*=50/10; else GLAM's"
        ),
    ] = field(name="PROBE_BUILDER_MINIMUMS", default="")


def source_options(settings: BuilderSettings) -> SourceOptions:
    """Return the source options of the settings; raise SettingsError for a text that cannot be read."""
    return SourceOptions(
        project=settings.pings_project,
        datasets=pairs("PROBE_BUILDER_DATASETS", settings.datasets),
        thresholds=_thresholds(settings.minimums),
        sampled_by_clients=frozenset(settings.sampled_by_clients.split(",")) - {""},
        sampled_channels=_sampled_channels(settings.sampled_channels),
    )


def _thresholds(text: str) -> Thresholds:
    name = "PROBE_BUILDER_MINIMUMS"
    try:
        return Thresholds.of_settings(pairs(name, text))
    except ValueError:
        raise SettingsError(f"{name}: {text!r} must be like fog/release=450000/100,*=50/10") from None


def _sampled_channels(text: str) -> dict[str, int]:
    name = "PROBE_BUILDER_SAMPLED_CHANNELS"
    allowed = [number for number in range(1, SAMPLE_IDS + 1) if SAMPLE_IDS % number == 0]
    channels = pairs(name, text)
    for channel, number in channels.items():
        if number not in map(str, allowed):
            raise SettingsError(f"{name}: {channel}={number} must be one of {', '.join(map(str, allowed))} sample ids")
    return {channel: int(number) for channel, number in channels.items()}


class WarehouseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Environment variables of the commands of the embedded warehouse."""

    warehouse_dir: Annotated[str, Meta(description="where the embedded warehouse keeps its files")] = field(
        name="PROBE_BUILDER_WAREHOUSE_DIR", default="warehouse-data"
    )
    sample_clients: Annotated[
        int, Meta(ge=1, le=1_000_000, description="clients of Firefox that send sample pings; half as many of Fenix")
    ] = field(name="PROBE_BUILDER_SAMPLE_CLIENTS", default=6_000)
    sample_probes: Annotated[
        int, Meta(ge=1, le=1_000, description="probes that sample pings carry; `usage-service up` takes 300")
    ] = field(name="PROBE_BUILDER_SAMPLE_PROBES", default=47)
