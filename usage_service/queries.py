"""Statements that the service runs, by file and name: `query("log", "end")` is `end` in `sql/log.sql`."""

from pathlib import Path

from usage_service.shared.queries import SqlFolder

query = SqlFolder(Path(__file__).parent / "sql").statement
