"""The statements that the builder runs on PostgreSQL, by file and name; those of BigQuery are in `aggregates/sql/`."""

from pathlib import Path

from usage_service.shared.queries import SqlFolder

query = SqlFolder(Path(__file__).parent / "sql").statement
