"""The DuckDB statements of the warehouse, by file and name, and the templates that its own names are filled in."""

from pathlib import Path

from usage_service.shared.queries import SqlFolder

_FOLDER = SqlFolder(Path(__file__).parent / "sql")

query = _FOLDER.statement
render = _FOLDER.template
