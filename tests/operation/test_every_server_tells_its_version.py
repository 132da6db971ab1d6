"""Every server answers /__version__, as Mozilla's Dockerflow asks: the service, a builder, the embedded warehouse."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from builder.metrics import BuilderMetrics, served
from tests.support.servers import Client
from usage_service.shared import version as module
from usage_service.shared.version import Version, running_version
from warehouse.api.app import create_app
from warehouse.sample.pings import SampleOptions
from warehouse.sample.populations import TABLES
from warehouse.sample.probes import sample_probes
from warehouse.sample.seeding import DATABASE, seed

OF_IMAGE = Version(version="9.9.9", source="https://example.org", commit="abc", build="https://example.org/1")
FIELDS = {"version", "source", "commit", "build"}


@pytest.fixture(autouse=True)
def of_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Write a version.json beside the interpreter, as in an image."""
    (tmp_path / "version.json").write_bytes(msgspec.json.encode(OF_IMAGE))
    monkeypatch.setattr(module, "VERSION_FILE", tmp_path / "version.json")
    running_version.cache_clear()
    yield
    running_version.cache_clear()


async def test_the_service(client: Client) -> None:
    response = await client.get("/__version__")
    assert (response.status, await response.json()) == (200, msgspec.to_builtins(OF_IMAGE))


async def test_a_builder(unused_tcp_port: int) -> None:
    with served(BuilderMetrics(), "127.0.0.1", unused_tcp_port):
        async with aiohttp.ClientSession(f"http://127.0.0.1:{unused_tcp_port}") as session:
            async with session.get("/__version__") as response:
                assert (response.status, await response.json()) == (200, msgspec.to_builtins(OF_IMAGE))
            async with session.get("/metrics") as response:
                assert "glam_builder_running" in await response.text()


async def test_the_warehouse(tmp_path: Path) -> None:
    seed(tmp_path, SampleOptions(clients=2, probes=sample_probes(1), tables=TABLES[:1]), lambda _done: None)
    async with TestClient(TestServer(create_app(tmp_path / DATABASE))) as client:
        response = await client.get("/__version__")
        assert (response.status, await response.json()) == (200, msgspec.to_builtins(OF_IMAGE))


def test_without_an_image_it_is_that_of_the_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VERSION_FILE", tmp_path / "none.json")
    running_version.cache_clear()
    told = msgspec.to_builtins(running_version())
    assert told["version"] == version("glam-usage")
    assert told.keys() == FIELDS
