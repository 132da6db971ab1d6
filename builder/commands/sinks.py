"""The command `probe-builder sink-tables`: GLAM's own tables, where there are none yet."""

from __future__ import annotations

from builder.settings import BuilderSettings
from builder.sinks.glam_tables import GlamTables
from usage_service.shared.bigquery.jobs import JobOptions, make_client
from usage_service.shared.settings import SettingsError, load_settings


def sink_tables_command() -> None:
    """Create those of GLAM's tables that PROBE_BUILDER_SINK_DATASET lacks, with the settings of the builder."""
    settings = load_settings(BuilderSettings)
    dataset = settings.sink_dataset
    if dataset is None:
        raise SettingsError("PROBE_BUILDER_SINK_DATASET: name the dataset, as project.dataset")
    client = make_client(settings.project, settings.warehouse_url, settings.location)
    created = GlamTables(client, dataset, JobOptions()).create_missing()
    for name in created:
        print(f"created {name}")
    if not created:
        print(f"{dataset} has all of GLAM's tables")
