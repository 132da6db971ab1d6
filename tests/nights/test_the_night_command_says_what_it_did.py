"""`probe-builder night`: from a list to its end, with what was not built; run beside builders or alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from uuid import UUID

import pytest
from typer.testing import CliRunner, Result

from builder import cli, running
from builder.aggregates.probe import BuildRequest, Rows
from builder.commands import night
from builder.nights import following
from builder.running import Warehouse
from builder.settings import BuilderSettings
from builder.worker import Worker
from tests.conftest import Start
from tests.support.builders import builds_a_row, put_in_catalogue
from tests.support.nights import COMMON_BYTES, OWN_BYTES, MadeUp, a_row_each, request_night
from tests.support.servers import Connection
from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.errors import PermanentWorkError
from usage_service.shared.errors import UserError
from usage_service.shared.exit_codes import ExitCode
from usage_service.shared.lifetime import Lifetime
from usage_service.shared.settings import ServerSettings

BROKEN = "broken_ms"


def read(job: UUID, requests: Sequence[BuildRequest], control: Control) -> Sequence[Rows | PermanentWorkError]:
    if any(request.probe == BROKEN for request in requests):
        raise PermanentWorkError("invalidQuery", "no such\nfield")
    return a_row_each(job, requests, control)


class Unsignalled(Lifetime):
    """A lifetime that no signal ends: they only reach the main thread."""

    def __init__(self) -> None:
        self.healthy = True
        self._over = asyncio.Event()


@pytest.fixture
def made_up(database_url: str, monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    """Let the command work on the test's database, with a warehouse that is made up."""
    made_up = MadeUp(read)

    def open_warehouse(_settings: BuilderSettings) -> Warehouse:
        return Warehouse(builds_a_row, readings=made_up.readings)

    monkeypatch.setattr("usage_service.shared.commands.configure_logs", lambda *_: None)  # would outlive the terminal
    monkeypatch.setattr(night, "open_warehouse", open_warehouse)
    monkeypatch.setattr(running, "Lifetime", Unsignalled)
    for name in [name for name in os.environ if name.startswith("PROBE_BUILDER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DATABASE_URL", database_url)
    return made_up


Called = Callable[..., Awaitable[Result]]


@pytest.fixture
async def called(made_up: MadeUp, start: Start, settings: ServerSettings) -> Called:
    """Return a caller of the command, beside a service on the same database."""
    service = await start(settings)
    words = ["night", "--product", "fog", "--channel", "nightly", "--url", str(service.make_url(""))]

    async def call(*more: str, stdin: str = "") -> Result:
        """Run the command in a thread, because it has an event loop of its own."""
        return await asyncio.to_thread(CliRunner().invoke, cli.make_app(), [*words, *more], input=stdin)

    return call


async def test_a_file_of_names(called: Called, database: Connection, tmp_path: Path) -> None:
    await put_in_catalogue(database, "gc_ms", "slow_ms", BROKEN)
    names = tmp_path / "names.txt"
    names.write_text(f"gc_ms  # the first\n\n{BROKEN}\nunknown_ms\nslow_ms\ngc_ms\n")
    result = await called("--probes", str(names), "--most-bytes", str(3 * (COMMON_BYTES + OWN_BYTES)))
    assert result.exit_code == 1
    read_bytes = 5 * COMMON_BYTES + 8 * OWN_BYTES  # of three, of one and two, of one and one
    assert result.stdout.splitlines()[0] == (
        "2 built, 0 without enough clients, 0 not needed, 1 cannot be built, 1 failed, 0 left, 0 cancelled"
    )
    assert result.stdout.splitlines()[1].startswith(f"3 jobs read {read_bytes:,} bytes in ")
    assert f"{BROKEN}: invalidQuery: no such field" in result.stderr
    assert "unknown_ms: the catalogue has no such probe" in result.stderr


async def test_names_from_stdin_and_what_is_left(called: Called, database: Connection) -> None:
    await put_in_catalogue(database, "gc_ms", "slow_ms")
    result = await called("--probes", "-", "--most-bytes", str(COMMON_BYTES + OWN_BYTES), stdin="gc_ms\nslow_ms\n")
    assert result.exit_code == 0
    assert "1 built" in result.stdout
    assert "1 left" in result.stdout
    assert f"left: it would add {OWN_BYTES} bytes" in result.stderr


async def test_no_night_is_asked_for_where_no_warehouse_is_known(
    called: Called, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_in_catalogue(database, "gc_ms")
    monkeypatch.setattr(night, "open_warehouse", running.open_warehouse)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere")
    result = await called("--probes", "-", stdin="gc_ms\n")
    assert "GOOGLE_APPLICATION_CREDENTIALS" in str(result.exception)
    assert await database.fetchval("SELECT count(*) FROM nights") == 0


@pytest.mark.parametrize(
    ("address", "code", "said"),
    [
        ("postgresql://u:pw@127.0.0.1:1/db", ExitCode.AWAY, "the database of DATABASE_URL was not reached"),
        ("postgresql://127.0.0.1:0/db", ExitCode.REFUSED, "DATABASE_URL: Port out of range"),
    ],
)
async def test_no_night_is_asked_for_where_the_database_is_away(
    called: Called, database: Connection, monkeypatch: pytest.MonkeyPatch, address: str, code: ExitCode, said: str
) -> None:
    await put_in_catalogue(database, "gc_ms")
    monkeypatch.setenv("DATABASE_URL", address)
    result = await called("--probes", "-", stdin="gc_ms\n")
    assert isinstance(result.exception, UserError)
    assert (result.exception.exit_code, said in str(result.exception)) == (code, True)
    assert await database.fetchval("SELECT count(*) FROM nights") == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--product", "fogg"), "nothing is known of product fogg; did you mean fog?"),
        (("--channel", "nightlyy"), "nothing is known of channel nightlyy of fog; did you mean nightly?"),
    ],
)
async def test_a_misspelt_product_or_channel_is_an_error(
    called: Called, database: Connection, words: tuple[str, ...], said: str
) -> None:
    await put_in_catalogue(database, "gc_ms")
    await database.execute("INSERT INTO releases VALUES ('fog', 'beta', 150, '2026-11-01')")
    result = await called(*words)
    assert said in str(result.exception)
    assert await database.fetchval("SELECT count(*) FROM nights") == 0


async def test_the_hot_list(called: Called, database: Connection) -> None:
    await put_in_catalogue(database, "gc_ms", "slow_ms")
    await database.execute("SELECT set_hotlist_rule('fog', 'gc_ms', 'pinned', 'we look at it', 'test')")
    result = await called("--budget", "1")
    assert (result.exit_code, result.stdout[:7]) == (0, "1 built")
    assert await database.fetchval("SELECT probe FROM builds") == "gc_ms"


async def test_a_night_that_is_under_way_is_gone_on_with(called: Called, made_up: MadeUp, database: Connection) -> None:
    await put_in_catalogue(database, "gc_ms", "slow_ms")
    under_way = await request_night(database, ["gc_ms"])
    result = await called("--probes", "-", stdin="slow_ms\n")
    assert result.exit_code == 0
    assert await database.fetchval("SELECT night_id FROM nights") == under_way
    assert [probes for _, probes in made_up.jobs] == [["gc_ms"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--probes", "-"), "the standard input has no names of probes"),
        (("--probes", "/nowhere"), "/nowhere cannot be read: No such file or directory"),
        (("--list", "nothing"), "no list was made for nothing; POST /v1/hotlist makes one"),
        (("--budget", "plenty"), "/budget"),
        (("--budget", "0GB"), "/budget: must be a number of probes from 1 to 1,000, an amount such as 500GB"),
        (("--most-bytes", str(2**70)), "Invalid value for '--most-bytes'"),
        (("--budget", "5", "--url", "http://127.0.0.1:1"), "http://127.0.0.1:1 does not answer"),
        (("--budget", "5", "--list", "a-run"), "give one of --budget, --list and --probes"),
    ],
)
async def test_a_list_that_is_none_is_said_in_a_line(called: Called, words: tuple[str, ...], message: str) -> None:
    result = await called(*words)
    assert result.exit_code != 0
    assert message in " ".join(f"{result.stderr} {result.exception}".replace("│", " ").split())


async def test_a_night_that_is_stopped_ends_as_interrupted(
    called: Called, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(Unsignalled):
        def __init__(self) -> None:
            super().__init__()
            self._over.set()

    await put_in_catalogue(database, "gc_ms")
    monkeypatch.setattr(running, "Lifetime", Stopped)
    result = await called("--probes", "-", stdin="gc_ms\n")
    assert (result.exit_code, result.stdout) == (ExitCode.INTERRUPTED, "")
    assert "stopped; the night goes on with the next builder" in result.stderr


async def test_a_worker_that_dies_is_told(
    called: Called, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(_worker: Worker) -> None:
        raise RuntimeError("a bug")

    await put_in_catalogue(database, "gc_ms")
    monkeypatch.setattr(Worker, "run", die)
    result = await called("--probes", "-", stdin="gc_ms\n")
    assert isinstance(result.exception, UserError)
    assert result.exception.exit_code == ExitCode.WRONG
    assert "the worker has died" in str(result.exception)


async def test_a_database_that_goes_away_is_said_in_a_line(
    called: Called, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_following: following.Following) -> following.NightState:
        raise ConnectionRefusedError("nobody listens")

    await put_in_catalogue(database, "gc_ms")
    monkeypatch.setattr(following, "AWAY_SECONDS", 0)
    monkeypatch.setattr(following.Following, "state", away)
    result = await called("--probes", "-", stdin="gc_ms\n")
    assert isinstance(result.exception, UserError)
    assert "the database is away" in str(result.exception)
    assert "goes on with the next builder" in str(result.exception)
