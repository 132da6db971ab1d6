"""Runs the house in the foreground, from a free port to the last process ended."""

from __future__ import annotations

import asyncio
import signal
import socket

from rich.console import Console

from usage_service.local.embedded_postgres import EmbeddedPostgres
from usage_service.local.services import STOP_SECONDS, HouseError, Parts
from usage_service.local.stack import House


async def run_house(house: House, console: Console) -> None:
    """Starts everything, says where it is, and runs until SIGINT or SIGTERM; raises when a part does not stay up."""
    _refuse_taken_port(house.port)
    house.data_dir.mkdir(parents=True, exist_ok=True)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    postgres = None if house.settings.database_url else EmbeddedPostgres(house.data_dir / "postgres")
    try:
        if postgres:
            console.print(f"Starting PostgreSQL in {house.data_dir / 'postgres'}", highlight=False)
            postgres.start()
        await _run_parts(house, postgres, stop, console)
    finally:
        if postgres:
            postgres.stop()
    console.print("Stopped.")


async def _run_parts(house: House, postgres: EmbeddedPostgres | None, stop: asyncio.Event, console: Console) -> None:
    stopping = asyncio.create_task(stop.wait())
    parts = Parts(house, postgres)
    working = asyncio.create_task(parts.run(console))
    try:
        await asyncio.wait({stopping, working}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        if not working.done():
            console.print("Stopping ...")
        for task in (working, stopping):
            task.cancel()
        await asyncio.wait({working, stopping}, timeout=STOP_SECONDS)
        await parts.stop()


def _refuse_taken_port(port: int) -> None:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise HouseError(
            f"port {port} of 127.0.0.1 cannot be used ({error.strerror}); choose another with --port"
        ) from None
