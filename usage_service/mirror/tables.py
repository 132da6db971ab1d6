"""The table of the mirror and the views of analysts in BigQuery: made where they are missing, described."""

from __future__ import annotations

from google.api_core.exceptions import NotFound
from google.cloud import bigquery
from google.cloud.bigquery import SchemaField

from usage_service.log.mirrored import MirrorPlace
from usage_service.mirror.columns import COLUMNS
from usage_service.mirror.folds import SessionRules
from usage_service.mirror.views import View, views
from usage_service.shared.bigquery.errors import PermanentWorkError
from usage_service.shared.bigquery.reasons import as_work_errors

CLUSTERED_BY = ["type", "product"]
MEANING = "The event log of the usage service, by `usage-service mirror`. Read the views."
SECONDS = 30.0
FIELDS = [
    SchemaField(name, column.bigquery, "REQUIRED" if column.required else "NULLABLE", description=column.meaning)
    for name, column in COLUMNS.items()
]


def prepare(client: bigquery.Client, place: MirrorPlace, rules: SessionRules) -> None:
    """Make what is missing of the dataset, the table and the views, and renew these. Raise a WorkError. Blocks."""
    with as_work_errors():
        try:
            table = client.get_table(place.table, timeout=SECONDS)
        except NotFound:
            client.create_dataset(place.mirror, exists_ok=True, timeout=SECONDS)
            table = client.create_table(_table(place), exists_ok=True, timeout=SECONDS)
        _check(place, table)
        for view in views(place, rules):
            _renew(client, place, view)


def _table(place: MirrorPlace) -> bigquery.Table:
    table = bigquery.Table(place.table, FIELDS)
    table.description = MEANING
    table.time_partitioning = bigquery.TimePartitioning(field="day")
    table.clustering_fields = CLUSTERED_BY
    return table


def _check(place: MirrorPlace, table: bigquery.Table) -> None:
    wanted, found = ({(one.name, one.field_type) for one in fields} for fields in (FIELDS, table.schema))
    if wanted - found:
        missing = ", ".join(sorted(name for name, _ in wanted - found))
        raise PermanentWorkError(
            "otherTable",
            f"{place.table} is no mirror of a log: it lacks the columns {missing}; name another dataset",
        )


def _renew(client: bigquery.Client, place: MirrorPlace, wanted: View) -> None:
    """Make a view say what this program says, if it does not yet."""
    name = f"{place.mirror}.{wanted.name}"
    try:
        view = client.get_table(name, timeout=SECONDS)
    except NotFound:
        view = bigquery.Table(name)
        view.view_query = wanted.text
        view = client.create_table(view, exists_ok=True, timeout=SECONDS)
    if view.view_query != wanted.text:
        view.view_query = wanted.text
        view = client.update_table(view, ["view_query"], timeout=SECONDS)
    described = [
        SchemaField(one.name, one.field_type, one.mode, description=wanted.columns[one.name]) for one in view.schema
    ]
    if view.description != wanted.meaning or described != view.schema:
        view.schema, view.description = described, wanted.meaning
        client.update_table(view, ["schema", "description"], timeout=SECONDS)
