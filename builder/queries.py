"""The statements that the builder runs: on PostgreSQL by file and name, on BigQuery as templates."""

from pathlib import Path

from usage_service.shared.queries import SqlFolder

query = SqlFolder(Path(__file__).parent / "sql").statement
render = SqlFolder(Path(__file__).parent / "aggregates" / "sql").template
