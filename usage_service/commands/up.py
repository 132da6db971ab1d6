"""`usage-service up`: everything on one machine, in one foreground command."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import IO, Annotated, cast

import typer
from rich.console import Console

from usage_service.local.running import run_local_stack
from usage_service.local.stack import LocalStack
from usage_service.shared.bounded_stream import BoundedStream
from usage_service.shared.settings import UpSettings, load_settings

Port = Annotated[int, typer.Option(min=1, max=65535, help="where the server listens on 127.0.0.1")]


def up_command(
    port: Port = 8080,
    data_dir: Annotated[Path, typer.Option(file_okay=False, help="where everything is kept")] = Path("data"),
    sample: Annotated[bool, typer.Option(help="a sample catalogue and traffic on the first start")] = True,
    mirror: Annotated[bool, typer.Option(help="a mirror of the log in the embedded warehouse")] = True,
) -> None:
    """Run PostgreSQL, the server, the warehouse and a builder until Ctrl-C.

    DATABASE_URL replaces the embedded PostgreSQL, GOOGLE_CLOUD_PROJECT the embedded warehouse.
    """
    settings = load_settings(UpSettings)
    stack = LocalStack(settings, port, data_dir.resolve(), sample, mirror)
    # A terminal that stalls, or has gone, must not hold up the watch over the services.
    with BoundedStream(1) as stdout:
        asyncio.run(run_local_stack(stack, Console(file=cast("IO[str]", stdout))))
