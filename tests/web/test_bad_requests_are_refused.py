"""A request with an unsupported path, method, type, encoding, size or speed gets the right 4xx, and no effect."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import zlib
from collections.abc import AsyncIterator
from io import BytesIO
from urllib.parse import quote

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from tests.support.bad_input import A_BUILD, INSIDE, JSON, STATEMENTS, filled, get, named, one_service, refused
from tests.support.servers import Client, eventually
from usage_service.web import bodies
from usage_service.web.api.routes import ROUTES, Route

pytestmark = pytest.mark.asyncio(loop_scope="module")

GIBIBYTE = 2**30


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="client")
async def one_client(module_database_url: str) -> AsyncIterator[Client]:
    async with one_service(module_database_url) as client:
        yield client


@pytest.mark.parametrize(
    "path", ["/v1", "/v2/events", "/v1/events/", "/v1/%00", "/v1/%ff", "/v1/" + "a" * 7_000, "/../etc"]
)
async def test_an_unknown_path_is_404(client: Client, path: str) -> None:
    await refused(await get(client, path), 404)


@pytest.mark.parametrize("text", ["17", "%00", "a" * 4_000, "..", "%2F", A_BUILD[:-1], STATEMENTS[1], A_BUILD])
async def test_a_build_that_cannot_be_is_404(client: Client, text: str) -> None:
    await refused(await get(client, f"/v1/builds/{quote(text, safe='%')}"), 404)


@pytest.mark.parametrize("route", ROUTES, ids=named)
async def test_a_wrong_method_is_405_and_told_the_right_ones(client: Client, route: Route) -> None:
    path = filled(route.path)
    taken = {other.method for other in ROUTES if re.fullmatch(re.sub(r"{\w+}", "[^/]+", other.path), path)}
    taken |= {"HEAD"} if "GET" in taken else set()
    for method in {"PUT", "PATCH", "OPTIONS", "DELETE", "TRACE"} - taken:
        response = await client.request(method, path)
        await refused(response, 405)
        assert set(response.headers["Allow"].split(", ")) == taken


@pytest.mark.parametrize("route", [route for route in ROUTES if route.method == "POST"], ids=named)
@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/xml", "application/x-www-form-urlencoded", "\xff", "a"]
)
async def test_another_content_type_is_415(client: Client, route: Route, kind: str | None) -> None:
    skip = ["Content-Type"] if kind is None else []
    headers = {"Content-Type": kind} if kind else {}
    response = await client.post(filled(route.path), data=b"{}", headers=headers, skip_auto_headers=skip)
    taken = "application/x-ndjson" if route.path.endswith("/restore") else "application/json"
    assert taken in (await refused(response, 415))["detail"]


@pytest.mark.parametrize("route", [route for route in ROUTES if route.method == "POST"], ids=named)
async def test_another_encoding_is_415(client: Client, route: Route) -> None:
    for encoding in ("nonsense", "compress", "br", "gzip, gzip", "a" * 4_000):
        headers = JSON | {"Content-Encoding": encoding}
        await refused(await client.post(filled(route.path), data=b"{}", headers=headers), 415)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("path", ["/v1/events", "/v1/builds"])
async def test_a_body_that_cannot_be_unpacked_is_400(client: Client, path: str, encoding: str) -> None:
    headers = JSON | {"Content-Encoding": encoding, "Connection": "close"}
    packed = (gzip.compress if encoding == "gzip" else zlib.compress)(
        json.dumps({"product": "fog", "channel": "nightly"}).encode()
    )
    for body in (packed[:20], packed[: len(packed) // 2], packed[:-9] + bytes(9), b"not packed at all"):
        response = await client.post(path, data=body, headers=headers)
        assert response.status == 400
        assert not INSIDE.search(await response.text())


@pytest.mark.parametrize("path", ["/v1/events", "/v1/builds"])
async def test_a_body_too_large_is_413(client: Client, path: str) -> None:
    problem = await refused(await client.post(path, data=BytesIO(b" " * (1024 * 1024 + 1)), headers=JSON), 413)
    assert "1 MiB" in problem["detail"]


def bomb() -> bytes:
    """Return a gibibyte of zeros as gzip, made of the same compressed block again and again."""
    packer = zlib.compressobj(9, wbits=31)
    zeros = bytes(2**20)
    first, again = (packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + again * (GIBIBYTE // len(zeros) - 1)


async def test_a_bomb_is_413_and_its_neighbours_are_served(client: Client) -> None:
    bombed = client.post("/v1/events", data=BytesIO(bomb()), headers=JSON | {"Content-Encoding": "gzip"})
    answer, neighbour = await asyncio.gather(bombed, client.get("/__lbheartbeat__"))
    await refused(answer, 413)
    assert neighbour.status == 200


async def spoken(client: Client, data: bytes) -> bytes:
    """Return the service's answer to bytes that aiohttp's client would not send."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    try:
        writer.write(data)
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    "request_text",
    [
        b"nonsense\r\n\r\n",
        b"GET /v1/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/popularity?\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 9_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: many\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    ],
    ids=lambda text: repr(text[:40]),
)
async def test_what_is_not_http_is_400(client: Client, request_text: bytes) -> None:
    answer = await spoken(client, request_text)
    head, _, body = answer.decode().partition("\r\n\r\n")
    assert head.split(" ", 2)[1] == "400"
    assert "Content-Type: application/problem+json" in head
    assert json.loads(body)["status"] == 400
    assert not INSIDE.search(answer.decode())


def unfinished(path: str) -> bytes:
    headers = "Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 9"
    return f"POST {path} HTTP/1.1\r\n{headers}\r\n\r\n[".encode()


@pytest.mark.parametrize("path", ["/v1/events", "/v1/builds"])
async def test_a_body_that_does_not_arrive_is_408(client: Client, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.1)
    reader, writer = await asyncio.open_connection(client.host, client.port)
    try:
        writer.write(unfinished(path))
        async with asyncio.timeout(20):
            assert b" 408 " in await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_client_that_goes_is_not_taken_for_the_database(client: Client) -> None:
    with capture_logs() as logged:
        _, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(unfinished("/v1/events"))
        await writer.drain()
        runner = client.server.runner
        assert runner is not None
        server = runner.server
        assert server is not None
        port = writer.get_extra_info("sockname")[1]

        async def connected(expected: bool) -> bool:
            ports = [c.transport.get_extra_info("peername")[1] for c in server.connections if c.transport]
            return (port in ports) == expected

        await eventually(lambda: connected(True), "the service has the connection")
        writer.transport.abort()
        await eventually(lambda: connected(False), "the service has lost the connection")
        assert (await client.get("/__lbheartbeat__")).status == 200
    assert not logged
