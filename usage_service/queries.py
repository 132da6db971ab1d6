"""The statements that the service runs, by file and name."""

from pathlib import Path

from usage_service.shared.queries import load_queries


def query(file: str, name: str) -> str:
    """The statement `name` of `sql/<file>.sql`."""
    return load_queries(Path(__file__).parent / "sql" / f"{file}.sql")[name]
