"""What is no request, or none for this service, is a problem (4xx) for every route; little of its body is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio

from tests.support.bad_input import filled, named, spoken
from tests.support.building import served
from tests.support.servers import Client
from usage_service.web.api.routes import ROUTES, Route
from usage_service.web.pages.routes import PAGE_ROUTES

pytestmark = pytest.mark.asyncio(loop_scope="module")

OWN = "the operator's own token"
ALL = (*ROUTES, *PAGE_ROUTES)
GET = b"GET /v1/popularity HTTP/1.1\r\n"
POST = b"POST /v1/events HTTP/1.1\r\nContent-Type: application/json\r\n"
HOST = b"Host: localhost\r\n"
END = b"\r\n"
LENGTH = 60_000_000
FEW = 16_000_000  # with all that the buffers of two sockets may hold


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="client")
async def one_client(module_database_url: str) -> AsyncIterator[Client]:
    async with served(module_database_url) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="guarded")
async def one_guarded(module_database_url: str) -> AsyncIterator[Client]:
    async with served(module_database_url, token=OWN) as client:
        yield client


async def answered(client: Client, data: bytes) -> tuple[int, str]:
    """Return the status and the media type of the answer to these bytes."""
    async with spoken(client, data) as (reader, _), asyncio.timeout(20):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    kinds = [line for line in head.split("\r\n") if line.lower().startswith("content-type:")]
    return int(head.split(" ")[1]), kinds[0].partition(": ")[2] if kinds else ""


UNREADABLE = {
    "a cookie that is not UTF-8": (GET + HOST + b"Cookie: a=\xff\r\n" + END, 400),
    "a session that is not UTF-8": (GET + HOST + b"Cookie: usage_session=\xff\xfe\r\n" + END, 400),
    "a token that is not UTF-8": (GET + HOST + b"Authorization: Bearer \xff\r\n" + END, 400),
    "a header that is not UTF-8": (GET + HOST + b"X-Any: \xc3\x28\r\n" + END, 400),
    "a header with NUL": (GET + HOST + b"Usage-Visitor: a\0b\r\n" + END, 400),
    "a host that is not UTF-8": (GET + b"Host: \xff\r\n" + END, 400),
    "an encoding that is not UTF-8": (POST + HOST + b"Content-Encoding: \xff\r\nContent-Length: 2\r\n\r\n{}", 400),
    "an unknown encoding": (POST + HOST + b"Content-Encoding: \xc3\xbc\r\nContent-Length: 2\r\n\r\n{}", 415),
    "a media type that is not UTF-8": (
        b"POST /v1/events HTTP/1.1\r\nContent-Type: \xff\r\n" + HOST + b"Content-Length: 2\r\n\r\n{}",
        400,
    ),
    "an unknown expectation": (POST + HOST + b"Expect: foo\r\nContent-Length: 2\r\n\r\n{}", 417),
    "one of nothing": (b"GET /nothing HTTP/1.1\r\n" + HOST + b"Expect: foo\r\n" + END, 417),
    "a path that is not UTF-8": (b"GET /\xff HTTP/1.1\r\n" + HOST + END, 400),
    "a path whose escapes are not UTF-8": (b"GET /%FF HTTP/1.1\r\n" + HOST + END, 404),
    "a query whose escapes are not UTF-8": (b"GET /v1/popularity?product=%FF HTTP/1.1\r\n" + HOST + END, 422),
    "an unknown method": (b"FOO / HTTP/1.1\r\n" + HOST + END, 400),
    "a method that no route takes": (b"PROPFIND /v1/events HTTP/1.1\r\n" + HOST + END, 405),
    "TRACE": (b"TRACE / HTTP/1.1\r\n" + HOST + END, 405),
    "CONNECT": (b"CONNECT a:1 HTTP/1.1\r\n" + HOST + END, 404),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\n" + HOST + END, 404),
    "a request line without an end": (b"GARBAGE\r\n\r\n", 400),
    "another protocol": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "another version": (b"GET / HTTP/3.7\r\n" + HOST + END, 400),
    "an address that is none": (b"GET http://[x/ HTTP/1.1\r\n" + HOST + END, 400),
    "a header without a colon": (b"GET / HTTP/1.1\r\nHost localhost\r\n" + END, 400),
    "a header without a name": (GET + HOST + b": x\r\n" + END, 400),
    "a header that is too long": (GET + HOST + b"X-Any: " + b"a" * 20_000 + b"\r\n" + END, 400),
    "a path that is too long": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST + END, 400),
    "too many headers": (GET + HOST + b"".join(b"X-%d: a\r\n" % number for number in range(300)) + END, 400),
    "a length that is none": (POST + HOST + b"Content-Length: x\r\n" + END, 400),
    "two lengths": (POST + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunks that are none": (POST + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    "no host": (GET + END, 400),
    "two hosts": (GET + HOST + HOST + END, 400),
}


@pytest.mark.parametrize("case", UNREADABLE)
async def test_it_is_a_problem(client: Client, case: str) -> None:
    data, status = UNREADABLE[case]
    assert await answered(client, data) == (status, "application/problem+json")


@pytest.mark.parametrize("route", ALL, ids=named)
async def test_it_is_one_for_every_route(client: Client, route: Route) -> None:
    line = f"{route.method} {filled(route.path)} HTTP/1.1\r\nContent-Type: application/json\r\n".encode()
    for header, status in (
        (b"Cookie: \xff\r\n" + HOST, 400),
        (b"Expect: foo\r\n" + HOST, 417),
        (b"Host: evil.example:8080\r\n", 421),
    ):
        found = await answered(client, line + header + b"Content-Length: 0\r\n\r\n")
        assert found == (status, "application/problem+json"), header


NAMES = ["localhost", "localhost:8080", "LOCALHOST", "127.0.0.1", "127.0.0.1:9", "127.9.9.9", "[::1]", "[::1]:8080"]
OTHERS = [
    "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:8080", "192.0.2.1",
    "[2001:db8::1]",
    "localhost@evil.example", "evil.example#localhost", "[x", "", "0.0.0.0",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES + OTHERS)
async def test_without_a_token_only_its_own_names_are_answered(client: Client, guarded: Client, name: str) -> None:
    asked = GET + f"Host: {name}\r\n\r\n".encode()
    status, kind = await answered(client, asked)
    assert (status == 200) == (name in NAMES), (status, kind)
    assert status in (200, 400, 421)
    if name != "[x":
        assert (await answered(guarded, asked))[0] == 401, "with tokens it may have any name"


async def pushed(client: Client, head: bytes) -> tuple[int, int]:
    """Send a long body until the connection is closed; return the status of the answer, and how much was taken."""
    async with spoken(client, head) as (reader, writer), asyncio.timeout(30):
        status = int((await reader.readuntil(b"\r\n")).split(b" ")[1])
        sent = 0
        with suppress(ConnectionError):
            while sent < LENGTH:
                writer.write(bytes(100_000))
                await writer.drain()
                sent += 100_000
        return status, sent


@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/events", {}, 401),
        ("/v1/events", {"Authorization": f"Bearer {OWN}", "Content-Type": "text/plain"}, 415),
        ("/v1/nothing", {}, 404),
        ("/v1/popularity", {}, 405),
        ("/login", {"Content-Type": "application/json", "Origin": "https://evil.example"}, 403),
    ],
    ids=str,
)
async def test_a_body_that_nobody_wants_is_not_read(
    guarded: Client, path: str, headers: dict[str, str], status: int, framing: str
) -> None:
    length = f"Content-Length: {LENGTH}" if framing == "length" else f"Transfer-Encoding: chunked\r\n\r\n{LENGTH:x}"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n" + "".join(f"{name}: {text}\r\n" for name, text in headers.items())
    end = "\r\n\r\n" if framing == "length" else "\r\n"
    found, taken = await pushed(guarded, f"{head}{length}{end}".encode())
    assert found == status
    assert taken < FEW


async def test_a_body_that_is_too_long_is_refused_by_its_length(guarded: Client) -> None:
    head = f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {OWN}\r\nContent-Type: application/json\r\n"
    found, taken = await pushed(guarded, f"{head}Content-Length: {LENGTH}\r\n\r\n".encode())
    assert (found, taken < FEW) == (413, True)


async def test_a_small_body_that_is_refused_leaves_the_connection_open(guarded: Client) -> None:
    request = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
    async with spoken(guarded) as (reader, writer), asyncio.timeout(20):
        for _ in range(3):
            writer.write(request)
            assert b" 401 " in await reader.readuntil(b"\r\n\r\n")
            writer.write(b"123456789")
            await reader.readuntil(b"}")


async def test_who_asks_first_is_told_before_it_sends_its_body(guarded: Client) -> None:
    head = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n"
    async with spoken(guarded, head + b"\r\n") as (reader, _), asyncio.timeout(20):
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 401 ")
    right = f"Content-Type: application/json\r\nAuthorization: Bearer {OWN}\r\n\r\n".encode()
    async with spoken(guarded, head + right) as (reader, writer), asyncio.timeout(20):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"[]")
        assert b" 422 " in await reader.readuntil(b"\r\n")
