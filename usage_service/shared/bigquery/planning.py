"""A query that BigQuery plans and does not run: whether it answers, for whom it is asked."""

from __future__ import annotations

from pathlib import Path

from google.cloud.bigquery import QueryJobConfig
from google.cloud.bigquery.retry import DEFAULT_RETRY

from usage_service.shared.bigquery.jobs import make_client
from usage_service.shared.queries import SqlFolder

SECONDS = 20.0
_query = SqlFolder(Path(__file__).parents[1] / "sql").statement


def plan_nothing(project: str, location: str) -> None:
    """Have BigQuery plan a query that reads nothing. Raise SettingsError without credentials, or its own errors."""
    retry = DEFAULT_RETRY.with_timeout(SECONDS)
    client, nothing = make_client(project, None, location), _query("session", "ping")
    client.query(nothing, QueryJobConfig(dry_run=True), timeout=SECONDS, retry=retry)
