"""Traces are sent as OpenTelemetry's variables say; without them nothing is loaded. A dead collector delays nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import Start
from tests.support.builder_process import BuilderProcess
from tests.support.builders import PROBE, put_in_catalogue, until_state
from tests.support.chaos import ServerProcess
from tests.support.collector import Collector, collecting
from tests.support.servers import Connection, event, eventually, post
from usage_service.shared import trace_export
from usage_service.shared.settings import ServerSettings, SettingsError
from usage_service.shared.trace_export import exported_spans
from usage_service.shared.tracing import is_traced

SMALL_QUEUE = {"BSP_SCHEDULE_DELAY": "10", "BSP_MAX_QUEUE_SIZE": "4", "BSP_MAX_EXPORT_BATCH_SIZE": "2"}
ANSWERS_SECONDS = 10.0  # less than the collector is waited for once
ENDS_SECONDS = 10.0
OF_THE_SDK = {"OtelBatchSpanRecordProcessor", "last spans"}
ASKED = {"product": "fog", "channel": "nightly", "probe": PROBE}
LOADED = """
import sys, builder.cli, usage_service.cli
for program in (builder.cli, usage_service.cli):
    program.make_app()  # loads all commands
assert {'builder.worker', 'usage_service.web.server'} <= sys.modules.keys()
sys.exit(not {'opentelemetry.sdk', 'opentelemetry.exporter', 'usage_service.shared.otel'}.isdisjoint(sys.modules))
"""


@pytest.fixture
async def catalogue(database: Connection) -> None:
    await put_in_catalogue(database, PROBE)


@pytest.fixture
def deaf() -> Iterator[socket.socket]:
    """Yield a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def answer_one(listening: socket.socket) -> None:
    """Answer the next request that waits, if there is one."""
    with suppress(BlockingIOError):
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(5)
            connection.recv(1_000_000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


async def ask(server: ServerProcess) -> None:
    async with aiohttp.ClientSession() as session:
        await server.ready(session)
        async with session.post(f"{server.url}/v1/builds", json=ASKED, allow_redirects=False) as response:
            assert response.status in (202, 303)  # it may be over already


@pytest.mark.usefixtures("catalogue")
async def test_server_and_builder_send_one_trace(
    database: Connection, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        server = ServerProcess(database_url, tmp_path / "server.log")
        builder = BuilderProcess("builder", tmp_path, {"DATABASE_URL": database_url})
        builder.spawn()
        try:
            await ask(server)
            await until_state(database, "succeeded")
        finally:  # what is left is sent at the end
            await asyncio.to_thread(builder.signal, signal.SIGTERM)
            await asyncio.to_thread(server.stop)
    check_trace(collector)


def check_trace(collector: Collector) -> None:
    [request], [asking] = collector.named("POST /v1/builds"), collector.named("request build")
    [build, *_] = collector.named("build probe")
    [store] = collector.named("store")
    assert (request.service, build.service) == ("usage-service", "probe-builder")
    assert (asking.parent, build.parent) == (request.span, asking.span)
    assert store.trace == build.trace == asking.trace == request.trace


async def test_a_collector_that_is_away_holds_nobody_up(
    deaf: socket.socket, start: Start, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_export, "FLUSH_SECONDS", 0.2)
    address = f"http://127.0.0.1:{deaf.getsockname()[1]}"
    for name, value in {"EXPORTER_OTLP_ENDPOINT": address, "EXPORTER_OTLP_TIMEOUT": "12", **SMALL_QUEUE}.items():
        monkeypatch.setenv(f"OTEL_{name}", value)
    with exported_spans("test"):
        client = await start(settings)
        await post(client, event())
        began = time.monotonic()
        for _ in range(20):
            await post(client, event())
        ended = time.monotonic()
    assert ended - began < ANSWERS_SECONDS
    assert time.monotonic() - ended < ENDS_SECONDS

    async def ended_too() -> bool:
        answer_one(deaf)
        return not any(thread.name in OF_THE_SDK for thread in threading.enumerate())

    await eventually(ended_too, "the SDK's threads end when they are answered", 40)


def test_the_sdk_is_not_loaded_where_nothing_is_traced() -> None:
    subprocess.run([sys.executable, "-c", LOADED], check=True, timeout=60)


@pytest.mark.parametrize("off", [{}, {"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_it_is_off_unless_a_collector_is_named(off: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    clear(monkeypatch)
    for name, value in off.items():
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setenv(name, value)
    with exported_spans("test"):
        assert not is_traced()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
    ],
)
def test_what_cannot_be_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clear(monkeypatch)
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name), exported_spans("test"):
        pass


def clear(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
