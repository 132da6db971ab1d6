"""The options that several commands have in common, each stated once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from usage_service.shared.settings import TOKEN_FILE

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_DATA_DIR = Path("data")

# Of commands that ask a running service.
Url = Annotated[str, typer.Option(envvar="USAGE_SERVICE_URL", help="where the service is")]
Token = Annotated[str | None, typer.Option(envvar="USAGE_SERVICE_TOKEN", show_default=str(TOKEN_FILE))]

# Of commands that work on the database itself.
DatabaseUrl = Annotated[
    str | None, typer.Option("--database-url", envvar="DATABASE_URL", help="of the database's owner")
]
DataDir = Annotated[Path, typer.Option(file_okay=False, help="of `usage-service up`, where no URL is given")]

# What is asked about.
Product = Annotated[str | None, typer.Option(help="such as fog; all, where none is named")]
Channel = Annotated[str | None, typer.Option(help="such as nightly; all, where none is named")]
Until = Annotated[str | None, typer.Option(help="an instant in RFC 3339, itself excluded")]
