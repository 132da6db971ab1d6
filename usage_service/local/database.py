"""The database of the local stack, for commands that work on it directly."""

from __future__ import annotations

from pathlib import Path

from usage_service.local.embedded_postgres import running_url
from usage_service.local.postgres_programs import EmbeddedPostgresError
from usage_service.shared.settings import SettingsError


def database_url(given: str | None, data_dir: Path) -> str:
    """Return `given`, else the URL of the local stack that runs in `data_dir`; raise SettingsError without either."""
    if given:
        return given
    try:
        return running_url(data_dir / "postgres")
    except EmbeddedPostgresError as error:
        raise SettingsError(
            f"set DATABASE_URL, or start the local stack of {data_dir} with `make run` ({error})"
        ) from None
