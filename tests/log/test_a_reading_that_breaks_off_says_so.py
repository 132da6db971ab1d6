"""What is wrong with a source is said, and a log that breaks off never looks like one that ended."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import ClientPayloadError

from tests.conftest import Start
from tests.operation.test_mistakes_in_the_address_are_one_line import MISTAKES
from tests.support.logs import line, write_log
from tests.support.proxy import proxied
from tests.support.servers import eventually
from usage_service.commands.exporting import export_log
from usage_service.imports.posting import PostAwayError, PostError
from usage_service.log import arrow
from usage_service.log.arrow import SCHEMA
from usage_service.log.errors import LogAwayError
from usage_service.log.history import LogReadError, read
from usage_service.shared.exit_codes import ExitCode
from usage_service.shared.settings import ServerSettings

NOWHERE = "127.0.0.1:9"


def test_what_makes_no_sense_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "log.txt").touch()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"source": "log.txt"}, "log.txt is no source of a log: there is no such file; give the URL of a database"),
        ({"source": "mysql://x/y"}, "is no source of a log"),
        ({"source": tmp_path / "none.parquet"}, "none.parquet is no source of a log: there is no such file"),
        ({"source": tmp_path}, "it is not a file, which can be read twice"),
        ({"types": ["probe_veiwed"]}, "did you mean probe_viewed"),
        ({"types": []}, "name one at least"),
        ({"since": "yesterday"}, "since 'yesterday' is not a time"),
        ({"visitor": "me"}, "visitor 'me' is not a UUID"),
        ({"after": -1}, "positions begin at 1"),
        ({"after": 100, "upto": 50}, "no position is after 100 and up to 50"),
        ({"since": "2026-11-02", "until": "2026-11-01T00:00"}, "since 2026-11-02 is not before until 2026-11-01T00:00"),
        ({"since": "2026-11-02", "until": "2026-11-02"}, "no event is between them"),
    ]
    for arguments, told in wrong:
        with pytest.raises(LogReadError, match=told):
            read(**arguments)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"DATABASE_URL": f"postgresql://me:secret@{NOWHERE}/usage"}, "the database 127.0.0.1:9/usage cannot be read"),
        ({"DATABASE_URL": "postgresql://me:secret@127.0.0.1:9/usage?wrong=1"}, "cannot be read"),
        ({"USAGE_SERVICE_URL": f"http://{NOWHERE}"}, "http://127.0.0.1:9 does not answer"),
    ],
)
def test_the_environment_says_where_it_is(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], told: str
) -> None:
    for name in ("DATABASE_URL", "USAGE_SERVICE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LogReadError, match=told) as caught:
        read().table()
    assert "secret" not in str(caught.value)


async def test_a_service_wants_its_token(
    start: Start, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await start(msgspec.structs.replace(settings, token="a token of sixteen or more"))
    url = str(client.make_url("/"))
    with pytest.raises(LogReadError, match=r"answered 401: .*USAGE_SERVICE_TOKEN"):
        await asyncio.to_thread(read(url).table)
    monkeypatch.setenv("USAGE_SERVICE_TOKEN", "a token of sixteen or more")
    assert (await asyncio.to_thread(read(url).table)).num_rows == 0
    assert "a token" not in repr(read(url, token="a token")._source)


def service_answers(body: bytes, headers: dict[str, str], status: int = 200) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: object = "-", size: object = "-") -> None:
            """Log nothing."""

    return Handler


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


CUTS: dict[str, Callable[[list[bytes]], bytes]] = {
    "between two batches": lambda messages: b"".join(messages[:2]),
    "before the end": lambda messages: b"".join(messages[:-1]),
    "inside a batch": lambda messages: b"".join(messages)[: len(messages[0]) + 100],
    "inside the schema": lambda messages: messages[0][:20],
    "at once": lambda messages: b"",
    "more than there should be": lambda messages: b"".join(messages) + b"x",
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_stream_that_just_stops_is_no_end(tmp_path: Path, cut: str) -> None:
    table = read(write_log(tmp_path / "log.ndjson", 40)).table()
    batches = [batch.serialize().to_pybytes() for batch in table.to_batches(max_chunksize=10)]
    body = CUTS[cut]([SCHEMA.serialize().to_pybytes(), *batches, arrow.END_OF_STREAM])
    with (
        serving(service_answers(body, {"Log-Position": "59"})) as url,
        pytest.raises(LogReadError, match="not to the end"),
    ):
        read(url).table()


def test_what_is_no_usage_service_is_named(tmp_path: Path) -> None:
    for status in (200, 404):
        told = f"answered {status}: this is not a usage service"
        with serving(service_answers(b"<html>", {}, status)) as url, pytest.raises(LogReadError, match=told):
            read(url).table()
    with serving(service_answers(b"<html>", {})) as url, pytest.raises(PostError, match="is not of a usage service"):
        export_log(tmp_path / "log.ndjson", "ndjson", 0, url, None)


async def test_a_server_that_dies_midway_is_noticed(
    start: Start, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*asked: object) -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pylist([], SCHEMA)
        raise RuntimeError("the database went away")

    monkeypatch.setattr("usage_service.log.mirrored.read_batches", dies)
    client = await start(settings)
    log = read(str(client.make_url("/")), upto=10)
    log.__dict__["end"] = 10
    with pytest.raises(LogReadError, match="cannot be read, or not to the end"):
        await asyncio.to_thread(log.table)


@pytest.mark.parametrize("error", [ConnectionRefusedError("away"), TimeoutError("away"), RuntimeError("a bug")])
async def test_lines_that_break_off_are_no_end(
    start: Start, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def breaks_off(*_asked: object) -> AsyncIterator[tuple[bytes, int]]:
        yield b"{}\n", 1
        raise error

    monkeypatch.setattr("usage_service.web.api.log.read_lines", breaks_off)
    client = await start(settings)
    response = await client.get("/v1/events")
    assert response.status == 200
    with pytest.raises(ClientPayloadError):
        await response.read()


async def test_a_database_that_goes_away_midway_is_noticed(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrow, "RANGE_POSITIONS", 1)
    async with proxied(database_url) as (proxy, url):
        log = read(url)
        assert await asyncio.to_thread(lambda: log.end) == 0
        log.__dict__["end"] = 10**9
        reading = asyncio.create_task(asyncio.to_thread(log.table))

        async def connected() -> bool:
            return proxy.accepted >= 2

        await eventually(connected, "the second connection")
        proxy.cut()
        with pytest.raises(LogAwayError, match="cannot be read"):
            await reading


@pytest.mark.parametrize(
    "mistake", ["wrong password", "no such role", "no such database", "too high a port", "no TLS there", "no such mode"]
)
async def test_a_database_that_refuses_is_not_away(database_url: str, mistake: str) -> None:
    """Also where an event loop runs, as in a notebook."""
    change, _ = MISTAKES[mistake]
    with pytest.raises(LogReadError, match="cannot be read") as caught:
        _ = read(change(database_url)).end
    assert caught.value.exit_code == ExitCode.REFUSED


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_service_that_may_do_better_later_is_away(tmp_path: Path, status: int) -> None:
    with serving(service_answers(b"{}", {}, status)) as url:
        with pytest.raises(LogAwayError, match=f"answered {status}"):
            read(url).table()
        with pytest.raises(PostAwayError, match=f"answered {status}"):
            export_log(tmp_path / "log.ndjson", "ndjson", 0, url, None)


def test_files_that_are_cut_or_no_logs_are_named(tmp_path: Path) -> None:
    whole = write_log(tmp_path / "whole.ndjson", 500)
    text = whole.read_bytes()
    files = {
        "cut.ndjson": text[: len(text) // 2],
        "cut.ndjson.gz": gzip.compress(text)[:-200],
        "bad.ndjson.gz": gzip.compress(text)[:200] + b"\0" * 50 + gzip.compress(text)[250:],
        "events.ndjson": b'{"type": "page_viewed"}\n',
        "twice.ndjson": text + text,
        "cut.parquet": b"PAR1 and no more",
    }
    told = {"cut.ndjson": r"cut.ndjson:\d+ is not an event", "twice.ndjson": "positions do not rise after 0"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(LogReadError, match=told.get(name, name)):
            read(tmp_path / name).table()
    pq.write_table(pa.table({"position": [1]}), tmp_path / "other.parquet")
    with pytest.raises(LogReadError, match="not an exported log: it has no channel, data"):
        read(tmp_path / "other.parquet").table()
    assert read(whole).table()["position"].to_pylist()[0] == line(1)["position"]
