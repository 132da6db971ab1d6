"""UsageClient: whatever is wrong with the service, the disk or the event, record() returns soon and raises nothing."""

from __future__ import annotations

import errno
import gc
import logging
import os
import random
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.support.fake_service import fake_service, soon
from tests.support.small_disk import small_disk
from usage_service.client import UsageClient, spool, worker
from usage_service.client.outgoing import MOST_EVENT_BYTES
from usage_service.client.segment import Segment


@contextmanager
def nowhere() -> Iterator[str]:
    """Return an address where no server listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield url_of(bound)


def url_of(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}"


def is_open(connection: socket.socket) -> bool:
    """Tell whether the other side has not closed the connection."""
    connection.setblocking(False)
    try:
        while connection.recv(65_536):
            pass
    except BlockingIOError:
        return True
    return False


@contextmanager
def lost(client: UsageClient) -> Iterator[UsageClient]:
    """Make a client that is not waited for at the end."""
    try:
        yield client
    finally:
        client.close(0)


@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
def test_recording_waits_for_no_request(spooled: bool, tmp_path: Path) -> None:
    """Record while the client is in its first request, which nobody answers: it is still in it after 4,000 events."""
    spool = tmp_path if spooled else None
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        lost(UsageClient(url_of(silent), spool_dir=spool, max_queue_events=3_000, timeout=60)) as client,
    ):
        client.record("page_viewed", visitor="somebody", data={"page": "/"})
        silent.settimeout(20)
        with silent.accept()[0] as request:
            for _ in range(3_999):
                client.record("page_viewed", visitor="somebody", data={"page": "/"})
            stats = client.stats()
            assert not client.flush(0.05)
            assert is_open(request)
            silent.setblocking(False)
            with pytest.raises(BlockingIOError):  # there was no other request
                silent.accept()
            silent.close()  # first, or the client asks again
    assert stats.recorded + stats.dropped == 4_000
    assert (stats.spooled, stats.queued) == ((4_000, 0) if spooled else (0, 3_000))


@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
def test_recording_goes_on_while_nobody_listens(spooled: bool, tmp_path: Path) -> None:
    spool = tmp_path if spooled else None
    with nowhere() as url, lost(UsageClient(url, spool_dir=spool, max_queue_events=3_000, timeout=0.2)) as client:
        for _ in range(4_000):
            client.record("page_viewed", visitor="somebody", data={"page": "/"})
        stats = client.stats()
        assert not client.flush(0.05)
    assert stats.recorded + stats.dropped == 4_000
    assert (stats.spooled, stats.queued) == ((4_000, 0) if spooled else (0, 3_000))


def test_a_full_queue_drops_the_newest_says_so_once_and_counts(caplog: pytest.LogCaptureFixture) -> None:
    with fake_service() as service:
        service.stop()
        with lost(UsageClient(service.url, max_queue_events=5, retry_seconds=0.05)) as client:
            ids = [client.record("x_note") for _ in range(8)]
            assert (client.stats().dropped, client.stats().dropped_full) == (3, 3)
            service.start()
            assert client.flush(10)
        assert list(service.events) == ids[:5]
    assert caplog.text.count("event_dropped") == 1


class Awkward:
    """An object that raises on any use."""

    def __getattribute__(self, name: str) -> object:
        raise ZeroDivisionError

    def __str__(self) -> str:
        raise ZeroDivisionError


def _endless() -> dict[str, object]:
    data: dict[str, object] = {}
    data["data"] = data
    return data


@pytest.mark.parametrize(
    "data",
    [{"it": object()}, {"it": {1, object()}}, {"it": "\ud800"}, _endless(), {"it": Awkward()}],
    ids=["object", "set", "surrogate", "cycle", "awkward"],
)
def test_an_event_that_cannot_be_written_is_logged_and_counted(
    data: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    with fake_service() as service, UsageClient(service.url) as client:
        assert client.record("x_note", visitor="a raw id", data=data)
        good = client.record("x_note", visitor="a raw id", data={"it": 1})
        assert client.flush(10)
        assert list(service.events) == [good]
        stats = client.stats()
        assert (stats.recorded, stats.sent, stats.dropped, stats.dropped_wrong) == (1, 1, 1, 1)
    assert "event_wrong" in caplog.text
    assert "a raw id" not in caplog.text


def test_an_event_that_is_too_long_is_dropped() -> None:
    with fake_service() as service, UsageClient(service.url) as client:
        client.record("x_note", data={"it": "x" * MOST_EVENT_BYTES})
        assert (client.stats().dropped, client.stats().dropped_too_long) == (1, 1)


def test_a_time_without_zone_is_local() -> None:
    with fake_service() as service, UsageClient(service.url) as client:
        event_id = client.record("x_note", occurred_at=datetime(2026, 11, 20, 12))
        assert client.flush(10)
        sent = datetime.fromisoformat(service.events[event_id]["occurred_at"])
        assert sent == datetime(2026, 11, 20, 12).astimezone()


def test_a_spool_that_cannot_be_written_is_replaced_by_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "file"
    file.touch()
    with fake_service() as service, UsageClient(service.url, spool_dir=file / "spool") as client:
        ids = [client.record("x_note") for _ in range(10)]
        assert client.flush(10)
        assert list(service.events) == ids
    assert caplog.text.count("spool_unusable") == 1


def test_a_spool_that_began_on_a_full_disk_is_used_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried more often than its bound has room for files, by two owners, and each try leaves nothing behind."""
    monkeypatch.setattr(spool, "REST_SECONDS", 0)
    bound = 8 * spool.SMALLEST_SEGMENT
    with small_disk(tmp_path / "mounted", 1) as disk, nowhere() as url:
        directory = disk.path / "spool"
        disk.fill()
        with (
            lost(UsageClient(url, spool_dir=directory, max_spool_bytes=bound)) as client,
            lost(UsageClient(url, spool_dir=directory, max_spool_bytes=bound)) as other,
        ):
            for one in (client, other) * 20:
                one.record("x_note")
            assert [(one.stats().queued, one.stats().spooled) for one in (client, other)] == [(20, 0), (20, 0)]
            assert not list(directory.iterdir())
            disk.free()
            for one in (client, other):
                one.record("x_note")
            assert [one.stats().spooled for one in (client, other)] == [1, 1]


@pytest.mark.parametrize("call", ["fcntl.flock", "os.fstat", "os.ftruncate", "os.pwrite"])
def test_a_file_that_cannot_be_begun_is_not_left_behind(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(call, _fails)
        with pytest.raises(OSError, match="No locks"):
            Segment.create(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", ["fcntl.flock", "os.fstat", "os.pread"])
def test_a_file_that_cannot_be_adopted_stays_for_others(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = Segment.create(tmp_path)
    segment.close()
    with monkeypatch.context() as patch:
        patch.setattr(call, _fails)
        with pytest.raises(OSError, match="No locks"):
            Segment.adopt(segment.path)
    adopted = Segment.adopt(segment.path)
    assert adopted is not None
    adopted.delete()


def test_a_file_that_cannot_be_deleted_is_unlocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = Segment.create(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", _fails)
        with pytest.raises(OSError, match="No locks"):
            segment.delete()
    adopted = Segment.adopt(segment.path)
    assert adopted is not None
    adopted.delete()


def _fails(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def test_a_spool_is_bounded_for_the_whole_directory(tmp_path: Path) -> None:
    bound = 64 * 1024
    with nowhere() as url:
        clients = [UsageClient(url, spool_dir=tmp_path, max_spool_bytes=bound, max_queue_events=10) for _ in range(3)]
        for client in clients * 400:
            client.record("x_note", data={"it": "x" * 100})
        taken = sum(path.stat().st_size for path in tmp_path.iterdir())
        stats = [client.stats() for client in clients]
        for client in clients:
            client.close(0)
    assert bound / 2 < taken <= bound
    assert all(one.queued == 10 and one.recorded + one.dropped == 400 for one in stats)


def test_a_log_handler_that_raises_does_not_matter() -> None:
    class Raising(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ZeroDivisionError

    log, handler = logging.getLogger("usage_service.client"), Raising()
    log.addHandler(handler)
    try:
        with fake_service() as service, UsageClient(service.url) as client:
            client.record("x_note", data={"it": object()})
            good = client.record("x_note")
            assert client.flush(10)
            assert list(service.events) == [good]
    finally:
        log.removeHandler(handler)


def test_many_threads_at_once(tmp_path: Path) -> None:
    with fake_service() as service, UsageClient(service.url, spool_dir=tmp_path) as client:
        ids: list[str] = []
        threads = [
            threading.Thread(target=lambda: ids.extend([client.record("x_note") for _ in range(200)])) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert client.flush(10)
        assert sorted(service.events) == sorted(ids)
        assert len(ids) == 1_600


def test_a_closed_client_drops_and_counts() -> None:
    with fake_service() as service:
        client = UsageClient(service.url)
        client.record("x_note")
        assert client.close()
        client.record("x_note")
        assert client.stats()[:5] == (1, 1, 0, 0, 1)
        assert client.stats().dropped_closed == 1
        assert not any(thread.name == "usage-client" for thread in threading.enumerate())


@pytest.mark.parametrize(
    "use",
    [
        lambda client: client.close(),
        lambda client: client.stats(),
        lambda client: client.flush(),
        lambda client: (client.record("x_note"), client.close(0)),
        lambda client: (client.close(), client.record("x_note"), client.stats(), client.close()),
    ],
    ids=["closed", "asked", "flushed", "used", "used once it was closed"],
)
def test_a_client_that_nobody_uses_is_not_kept(use: Callable[[UsageClient], object]) -> None:
    with nowhere() as url:
        client = UsageClient(url)
        use(client)
        kept = weakref.ref(client)
        del client
        gc.collect()
        assert kept() is None


def test_files_are_for_the_app_only(tmp_path: Path) -> None:
    with nowhere() as url, lost(UsageClient(url, spool_dir=tmp_path / "spool")) as client:
        client.record("x_note", visitor="a raw id")
        [path] = (tmp_path / "spool").iterdir()
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_durable_events_are_synced_while_the_service_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    with nowhere() as url, lost(UsageClient(url, spool_dir=tmp_path, durable=True, retry_seconds=60)) as client:
        client.record("x_note")
        soon(lambda: len(synced) == 1, "synced")
        client.record("x_note")
        soon(lambda: len(synced) == 2, "synced while it waits to try again")


def test_durable_events_are_synced_on_macos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.delattr(os, "fdatasync")
    monkeypatch.setattr(os, "fsync", synced.append)
    with fake_service() as service, UsageClient(service.url, spool_dir=tmp_path, durable=True) as client:
        client.record("x_note")
        assert client.flush(10)
        soon(lambda: len(synced) == 1, "synced")


@pytest.mark.parametrize("at_the_end", [False, True], ids=["meanwhile", "at the end"])
def test_durable_events_are_synced_while_the_service_hangs(
    at_the_end: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(os.fstat(fd).st_size))
    if at_the_end:
        monkeypatch.setattr(worker, "SYNC_SECONDS", 60)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        lost(UsageClient(url_of(silent), spool_dir=tmp_path, durable=True, timeout=60)) as client,
    ):
        client.record("x_note")
        silent.settimeout(20)
        with silent.accept()[0] as request:
            [path] = tmp_path.iterdir()
            for _ in range(2 - at_the_end):
                client.record("x_note")
                if at_the_end:
                    client.close(0)
                soon(lambda: path.stat().st_size in synced, "all is synced in the middle of a request")
            assert is_open(request)
            silent.close()  # first, or the client asks again


def test_recording_waits_for_no_disk_and_no_file_is_closed_while_it_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes as long for a file as the test likes, while the service takes what is in it and in others."""
    begun, go_on = threading.Event(), threading.Event()
    synced: list[int] = []

    def slow(fd: int) -> None:
        begun.set()
        go_on.wait(20)
        synced.append(os.fstat(fd).st_nlink)

    monkeypatch.setattr(os, "fdatasync", slow)
    bound = 80 * spool.SMALLEST_SEGMENT
    with fake_service() as service:
        service.stop()
        with UsageClient(
            service.url, spool_dir=tmp_path, durable=True, max_spool_bytes=bound, retry_seconds=0.05
        ) as client:
            client.record("x_note")
            assert begun.wait(20)
            for _ in range(1_000):
                client.record("x_note", data={"it": "x" * 100})
            assert len(list(tmp_path.iterdir())) > 1
            service.start()
            soon(lambda: len(service.events) > 0, "sent")
            assert (client.stats().recorded, synced) == (1_001, [])
            go_on.set()
            assert client.flush(10)
        assert len(service.events) == 1_001
    assert 0 not in synced
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "ftp://here"},
        {"url": "here:8080"},
        {"token": "with\nline feed"},
        {"token": ""},
        {"source": "two words"},
        {"batch_events": 0},
        {"batch_events": 1_001},
        {"timeout": 0},
        {"linger_seconds": -1},
        {"max_queue_events": 0},
    ],
    ids=str,
)
def test_what_cannot_work_is_said_when_the_client_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))) as caught:
        UsageClient(**{"url": "http://127.0.0.1:1"} | wrong)
    assert "line feed" not in str(caught.value)


def test_the_random_numbers_of_the_app_are_its_own() -> None:
    with nowhere() as url, lost(UsageClient(url, timeout=0.2)) as client:
        state = random.getstate()
        client.record("x_note")
        soon(lambda: client.stats().retries > 1, "it tried again")
        assert random.getstate() == state


def test_importing_it_loads_nothing_heavy() -> None:
    heavy = "{'aiohttp', 'asyncio', 'asyncpg', 'duckdb', 'structlog', 'rich', 'numpy'}"
    asked = f"import sys, usage_service.client; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", asked], text=True, timeout=30).strip() == "[]"
