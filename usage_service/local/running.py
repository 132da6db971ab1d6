"""Run of the local stack in the foreground, from the check of its port to the end of its last process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

from rich.console import Console

from usage_service.local.embedded_postgres import EmbeddedPostgres
from usage_service.local.services import STOP_SECONDS, LocalStackError, Services
from usage_service.local.stack import LocalStack
from usage_service.shared.schema import refuse_missing_database


async def run_local_stack(stack: LocalStack, console: Console) -> None:
    """Start all services, print where they are, and run until SIGINT or SIGTERM.

    Raise LocalStackError or ChildError when a service does not start or does not stay up, DatabaseAwayError where that
    of DATABASE_URL does not answer.
    """
    _refuse_taken_port(stack.port)
    if stack.settings.database_url:
        await refuse_missing_database(stack.settings.database_url)
    stack.data_dir.mkdir(parents=True, exist_ok=True)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    postgres = None if stack.settings.database_url else EmbeddedPostgres(stack.data_dir / "postgres")
    try:
        if postgres:
            console.print(f"Starting PostgreSQL in {stack.data_dir / 'postgres'}", highlight=False)
            postgres.start()
        await _run_services(Services(stack, postgres), stop, console)
    finally:
        if postgres:
            postgres.stop()
    console.print("Stopped.")


async def _run_services(services: Services, stop: asyncio.Event, console: Console) -> None:
    stopping = asyncio.create_task(stop.wait())
    running = asyncio.create_task(services.run(console))
    try:
        await asyncio.wait({stopping, running}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
    finally:
        if not running.done():
            console.print("Stopping ...")
        for task in (running, stopping):
            task.cancel()
        await asyncio.wait({running, stopping}, timeout=STOP_SECONDS)
        await services.stop()


def _refuse_taken_port(port: int) -> None:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        # Set by `make run`, which takes no options of its own.
        how = 'make run ARGS="--port PORT"' if "MAKELEVEL" in os.environ else "--port"
        raise LocalStackError(
            f"port {port} of 127.0.0.1 cannot be used ({error.strerror}); choose another with {how}"
        ) from None
