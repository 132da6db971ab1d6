"""Addresses of the services of a local stack, for commands that work on them directly."""

from __future__ import annotations

from pathlib import Path

from usage_service.shared.errors import AwayError
from usage_service.shared.settings import SettingsError

DATABASE = "usage"
READY = "ready"
WAREHOUSE_URL_FILE = "warehouse-url"  # in the data directory


class StackAwayError(SettingsError, AwayError):
    """The local stack whose database is meant does not run."""

    exit_code = AwayError.exit_code


def database_url(given: str | None, data_dir: Path) -> str:
    """Return `given`, else the URL of the local stack that runs in `data_dir`.

    Raise StackAwayError where that does not run, and SettingsError where there is none.
    """
    found = given or running_url(data_dir)
    if found is None:
        if was_started(data_dir):
            raise StackAwayError(
                f"the local stack of {data_dir} does not run; start it with `usage-service up --data-dir {data_dir}`, "
                "or name another database with --database-url"
            )
        raise SettingsError(
            f"no database: give --database-url or set DATABASE_URL, or start the local stack of {data_dir} with "
            f"`usage-service up --data-dir {data_dir}`"
        )
    return found


def running_url(data_dir: Path) -> str | None:
    """Return the URL of the PostgreSQL that `usage-service up` runs in `data_dir`, None where none is ready."""
    home = (data_dir / "postgres").absolute()
    try:
        told = (home / "cluster" / "postmaster.pid").read_text("utf-8").splitlines()
        password = (home / "password").read_text("utf-8").strip()
        port, state = int(told[3]), told[7].strip()
    except (OSError, ValueError, IndexError):
        return None
    return address_of(password, port) if state == READY else None


def was_started(data_dir: Path) -> bool:
    """Return whether `usage-service up` has made a database in `data_dir`."""
    return (data_dir / "postgres" / "password").exists()


def address_of(password: str, port: int) -> str:
    """Return the URL of an embedded PostgreSQL's database."""
    return f"postgresql://postgres:{password}@127.0.0.1:{port}/{DATABASE}"
