"""A log that cannot be written, or whose reader stalls, neither ends a program nor holds it up."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.error import URLError

import pytest

from tests.support.pipes import fill
from tests.support.warehouse_support import seeded
from usage_service.local.ports import free_port
from usage_service.local.postgres_cluster import wait_until
from usage_service.shared.bounded_stream import BoundedStream

SECONDS = 120.0  # for programs that start at once, on the busiest machine
MODULES = {
    "server": ["usage_service", "serve"],
    "builder": ["builder", "run"],
    "warehouse": ["builder", "warehouse", "serve", "--port", "{port}"],
}
ANSWERING = {"server": "/__lbheartbeat__", "builder": "/metrics", "warehouse": "/__version__"}

pytestmark = pytest.mark.timeout(300)


class Stderr:
    """The stderr of a program: one that stalls (its pipe is full), is broken, closed, or on a full disk."""

    def __init__(self, fault: str) -> None:
        self.reader, self.writer = os.pipe()
        self.close_it = fault == "closed"
        if fault == "stalled":
            self.filled = fill(self.writer)
        elif fault == "broken":
            os.close(self.reader)
        elif fault == "full disk":
            os.close(self.writer)
            self.writer = os.open("/dev/full", os.O_WRONLY)

    def read(self) -> bytes:
        """Read what the program wrote, until it has ended."""
        os.close(self.writer)
        with os.fdopen(self.reader, "rb") as file:
            return file.read()[self.filled :]


class Program:
    """A program with such a stderr."""

    def __init__(self, name: str, stderr: Stderr, database_url: str, directory: Path) -> None:
        port = str(free_port())
        self.url = f"http://127.0.0.1:{port}"
        self._path = ANSWERING[name]
        environ = {
            "DATABASE_URL": database_url,
            "USAGE_SERVICE_VISITOR_SECRET": "a secret for tests only",
            "USAGE_SERVICE_PORT": port,
            "PROBE_BUILDER_METRICS_PORT": port,
            "PROBE_BUILDER_WAREHOUSE_URL": "http://127.0.0.1:9",
            "PROBE_BUILDER_WAREHOUSE_DIR": str(directory),
        }
        command = [sys.executable, "-m", *(word.format(port=port) for word in MODULES[name])]
        if stderr.close_it:
            command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
        self.process = subprocess.Popen(command, env=os.environ | environ, stderr=stderr.writer)

    def is_well(self) -> bool:
        """Return whether it answers."""
        assert self.process.poll() is None, f"it ended with {self.process.returncode}"
        with suppress(URLError, OSError), urllib.request.urlopen(self.url + self._path, timeout=2) as answer:
            return bool(answer.status == 200)
        return False


@contextmanager
def running(name: str, fault: str, database_url: str, directory: Path) -> Iterator[tuple[Program, Stderr]]:
    stderr = Stderr(fault)
    program = Program(name, stderr, database_url, directory)
    try:
        yield program, stderr
    finally:
        program.process.kill()
        program.process.wait(SECONDS)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return seeded(tmp_path_factory).parent


# Each program and each fault; they share what keeps them up.
PAIRS = [("server", "stalled"), ("server", "closed"), ("builder", "broken"), ("warehouse", "full disk")]


def test_every_program_works_and_ends_whatever_becomes_of_its_log(database_url: str, directory: Path) -> None:
    with ExitStack() as stack:  # all at once, because they take long to start
        started = [stack.enter_context(running(*pair, database_url, directory)) for pair in PAIRS]
        for pair, (program, _stderr) in zip(PAIRS, started, strict=True):
            assert wait_until(program.is_well, SECONDS), f"{pair} does not work"
            if pair[1] == "closed":  # else the number is that of a connection, which would be sent the log
                assert Path(f"/proc/{program.process.pid}/fd/2").readlink() == Path(os.devnull)
        for program, _stderr in started:
            program.process.send_signal(signal.SIGTERM)
        for pair, (program, _stderr) in zip(PAIRS, started, strict=True):
            assert program.process.wait(SECONDS) == 0, pair


def test_what_waited_for_the_reader_is_written(database_url: str, directory: Path) -> None:
    with running("server", "stalled", database_url, directory) as (program, stderr):
        assert wait_until(program.is_well, SECONDS)
        os.read(stderr.reader, stderr.filled)  # the reader goes on
        stderr.filled = 0
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(SECONDS) == 0
    events = [json.loads(line)["event"] for line in stderr.read().splitlines()]
    assert {"serving", "draining"} <= set(events)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Open a small pipe."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield reader, writer
    os.close(writer)
    with suppress(OSError):
        os.close(reader)


def read_until(reader: int, end: bytes) -> list[bytes]:
    text = b""
    while end not in text:
        text += os.read(reader, 65_536)
    return text.splitlines()


def test_what_does_not_fit_is_dropped_and_said_in_one_line(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with BoundedStream(writer, most_bytes=20_000) as stream:
        for number in range(1_000):
            stream.write(f"{number:99}\n")  # 100 bytes
        dropped = stream.dropped_lines
        assert 700 <= dropped < 1_000
        *lines, last = read_until(reader, b"were dropped\n")
        assert [int(line) for line in lines] == list(range(1_000 - dropped))
        assert last == f"{dropped} lines that could not be written were dropped".encode()
        stream.write("after\n")
        assert read_until(reader, b"after\n") == [b"after"]


def test_a_reader_that_stalls_is_waited_for_once_and_a_short_time(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with BoundedStream(writer) as stream:
        stream.write("x" * 8192)
        stream.flush()
        began = time.monotonic()
        for _ in range(1_000):
            stream.flush()
        assert time.monotonic() - began < 100  # each would wait half a second
        os.read(reader, 4096)  # it goes on


def test_a_line_cut_by_a_full_disk_is_ended_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "log"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with path.open("wb", buffering=0) as file, BoundedStream(file.fileno()) as stream:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        try:
            stream.write("first\nsecond\nthird\n")
            assert wait_until(lambda: stream.dropped_lines == 2, SECONDS)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, ignored)
        stream.write("fourth\n")
        assert wait_until(lambda: path.read_bytes().endswith(b"dropped\n"), SECONDS)
    said = "2 lines that could not be written were dropped"
    assert path.read_text().splitlines() == ["first", "seco", "fourth", said]


def test_any_text_can_be_written(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with BoundedStream(writer) as stream:
        stream.write("\udcff é\n")
    assert read_until(reader, b"\n") == ["\\udcff é".encode()]


NOT_TO_BE_RENDERED = {
    "it_broke": "class Bad:\n    def __repr__(self): raise ValueError\nlog.error('it_broke', it=Bad())",
    "%d of it": "import logging\nlogging.getLogger('a library').error('%d of it', 'some')",
}
SET_UP = """
from usage_service.shared.bounded_stream import replace_stderr
replace_stderr()
import structlog
from usage_service.shared.logs import configure_logs
configure_logs()
log = structlog.get_logger("tests")
"""


@pytest.mark.parametrize("event", NOT_TO_BE_RENDERED)
def test_what_cannot_be_rendered_is_a_line(event: str) -> None:
    command = [sys.executable, "-c", SET_UP + NOT_TO_BE_RENDERED[event]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    [line] = map(json.loads, done.stderr.splitlines())
    assert line.get("of", line["event"]) == event
    assert line["level"] == "error"
