"""One embedded PostgreSQL a run, one database a worker, emptied before each test."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import hypothesis
import psycopg
import pytest
import pytest_asyncio
import structlog
from aiohttp.test_utils import TestClient
from psycopg import sql

from tests.support import collecting, left_threads, postgres_owner, run_directory, slow
from tests.support.building import TwoServers, open_two_servers, without_builds
from tests.support.made_once import made_once
from tests.support.servers import Client, Connection, ProductionServer, drained_projections, rounds
from usage_service.local.embedded_postgres import EmbeddedPostgres
from usage_service.local.ports import free_port
from usage_service.shared.postgres import connect
from usage_service.shared.schema import install_schema
from usage_service.shared.settings import ServerSettings
from usage_service.web import guesses
from usage_service.web.server import create_app

FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",  # what it would tidy up is emptied before the next test
    "shared_buffers": "64MB",
    "max_connections": "300",
    "wal_level": "minimal",  # nobody follows it
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
}
TEMPLATE = "usage"
# An example that takes 200 ms, or data that take a second to make, are no failure: the machine has other work.
hypothesis.settings.register_profile(
    "tests", max_examples=rounds(40), deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")
DAY, NIGHT = 86_400, 15  # seconds
SECRET = "a secret for tests only"


@pytest.fixture(scope="session", autouse=True)
def loggers_are_not_kept() -> Iterator[None]:
    """Undo the logs that a command of this process sets up: what is logged in later tests is not to go there.

    Logs go to stderr, as in production: on stdout a line about a slow command would be taken for its output.
    Tracebacks are plain: the usual ones show all locals, which takes seconds where an application is among them.
    """
    configure = structlog.configure
    uncached = {"cache_logger_on_first_use": False}
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[*structlog.get_config()["processors"][:-1], plain],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # what it is now, as tests replace it
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structlog, "configure", lambda **settings: configure(**settings | uncached))
        yield


@pytest.fixture(scope="session", autouse=True)
def states_are_kept_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the state of imports of tests, and of the programs that they start, where nobody else's is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def wrong_tokens_may_be_many() -> Iterator[None]:
    """Let tests send more wrong tokens than an address may, but for those of that limit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guesses, "AT_ONCE", 1_000_000)
        yield


_server = pytest.StashKey[tuple[EmbeddedPostgres, Path]]()


def pytest_configure(config: pytest.Config) -> None:
    """Start the server in the process that hands out the tests."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell has jobs in the background ignore ^C, and so would each program that a test starts and interrupts.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.pluginmanager.register(collecting)
    config.pluginmanager.register(left_threads.LeftThreads())
    config.pluginmanager.register(slow.Uncounted())
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    slow.check()
    directory = run_directory.make()
    postgres = EmbeddedPostgres(directory / run_directory.CLUSTER, options=FAST)
    postgres.start()
    config.stash[_server] = postgres, directory
    asyncio.run(install_schema(postgres.url))
    _log_in_cheaply(postgres.url)


def _log_in_cheaply(url: str) -> None:
    """Hash the password once instead of 4096 times, which costs more than the rest of a connection."""
    role, password = (sql.Identifier(urlsplit(url).username or ""), sql.Literal(urlsplit(url).password))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET scram_iterations = 1")
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, password))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave slow files out where slow tests are not wanted, which saves importing what they need."""
    return True if config.option.markexpr == "not slow" and slow.is_slow(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no worker is left with it at the end."""
    slow.longest_first(items)


def pytest_runtest_setup() -> None:
    """Begin no test in the last seconds of a UTC day: what is fresh or of today would not be any more."""
    left = DAY - time.time() % DAY
    if left < NIGHT:
        time.sleep(left)


class WorkerNode(Protocol):
    """What pytest-xdist hands out: a worker to be, seen from the process that starts it."""

    config: pytest.Config
    workerinput: dict[str, str]


def pytest_configure_node(node: WorkerNode) -> None:
    """Tells a worker where the server is."""
    node.workerinput["postgres_url"] = node.config.stash[_server][0].url


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server."""
    if _server in config.stash:
        postgres, directory = config.stash[_server]
        postgres.stop()
        run_directory.remove(directory)


@pytest.fixture
def unused_tcp_port() -> int:
    """Return a port that nobody uses; pytest-asyncio's may be given to somebody else meanwhile."""
    return free_port()


@pytest.fixture
def unused_tcp_port_factory() -> Callable[[], int]:
    """Make such ports."""
    return free_port


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a PostgreSQL at rest, its schema installed: for tests to copy, never to start."""

    def make(data_dir: Path) -> None:
        with EmbeddedPostgres(data_dir, options=postgres_owner.FAST) as postgres:
            asyncio.run(install_schema(postgres.url))

    return made_once(tmp_path_factory, "installed", make)


@pytest.fixture(scope="module")
def cluster(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a PostgreSQL of a test file's own, not running."""
    return Path(shutil.copytree(installed, tmp_path_factory.mktemp("made") / "data"))


@pytest.fixture
def own_cluster(installed: Path, tmp_path: Path) -> Path:
    """Return a PostgreSQL of one test's own, not running."""
    return Path(shutil.copytree(installed, tmp_path / "postgres"))


@pytest.fixture
def made(cluster: Path) -> Path:
    """Return that cluster at rest, and nothing in its log."""
    assert postgres_owner.all_gone(cluster)
    (cluster / "postgres.log").write_text("")
    return cluster


@pytest.fixture(scope="session")
def server_url(request: pytest.FixtureRequest) -> str:
    """Return the superuser's URL of the template database."""
    worker = getattr(request.config, "workerinput", None)
    return str(worker["postgres_url"] if worker else request.config.stash[_server][0].url)


@pytest.fixture(scope="session")
def worker_database_url(server_url: str, worker_id: str) -> str:
    """Yield a database of this worker's own, its schema installed."""
    name = f"usage_{worker_id}"

    async def create() -> None:
        connection = await asyncpg.connect(_with_database(server_url, "postgres"))
        try:
            await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE {TEMPLATE}')
        finally:
            await connection.close()

    asyncio.run(create())
    return _with_database(server_url, name)


def _with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


# Only the tables with rows, because to truncate an empty one costs as much.
EMPTY = """
DO $$
DECLARE
    candidate text;
    has_rows  boolean;
    filled    text[] := '{}';
BEGIN
    FOR candidate IN  -- all but those that an installation fills
        SELECT tablename FROM pg_tables
        WHERE schemaname = 'public'
          AND tablename NOT IN ('schema_version', 'projections', 'tools', 'metric_types', 'recording_probe',
                                'hidden_probes')
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %I)', candidate) INTO has_rows;
        IF has_rows THEN
            filled := filled || quote_ident(candidate);
        END IF;
    END LOOP;
    IF filled <> '{}' THEN
        EXECUTE 'TRUNCATE ' || array_to_string(filled, ', ') || ' CASCADE';
    END IF;
END $$;
DELETE FROM hidden_probes WHERE source <> 'GLAM';
UPDATE hidden_probes SET hidden = true, log_position = 0 WHERE log_position > 0;
ALTER SEQUENCE event_position RESTART;
UPDATE projections SET position = 0, changed_at = 0, failed_at = NULL, failed_after = NULL, error = NULL
WHERE (position, changed_at) <> (0, 0) OR failed_at IS NOT NULL;
"""


class Emptier:
    """A session that empties a worker's database: a new one for each test would take ten times as long."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection = self._connect()

    def empty(self) -> str:
        """Leave the database as a fresh installation does and return its URL; no server may run meanwhile."""
        try:
            self._connection.execute(EMPTY)
        except psycopg.OperationalError:  # a test has ended the session
            self._connection.close()
            self._connection = self._connect()
            self._connection.execute(EMPTY)
        return self.url

    def close(self) -> None:
        """End the session."""
        self._connection.close()

    def _connect(self) -> psycopg.Connection:
        options = "-c lock_timeout=30s"
        return psycopg.connect(self.url, autocommit=True, prepare_threshold=None, options=options)


@pytest.fixture(scope="session")
def emptier(worker_database_url: str) -> Iterator[Emptier]:
    """Yield the session that empties the database of this worker."""
    emptier = Emptier(worker_database_url)
    yield emptier
    emptier.close()


@pytest.fixture
def database_url(emptier: Emptier) -> str:
    """Return the worker's database, emptied for each test."""
    return emptier.empty()


@pytest.fixture(scope="module")
def module_database_url(emptier: Emptier) -> str:
    """Return the worker's database, emptied once for all tests of a module."""
    return emptier.empty()


@pytest.fixture
async def own_database_url(server_url: str, worker_id: str) -> AsyncIterator[str]:
    """Yield a freshly installed database of one test's own, whose tables it may change."""
    async with new_database(server_url, f"usage_{worker_id}_own") as url:
        yield url


@asynccontextmanager
async def new_database(server_url: str, name: str, template: str = TEMPLATE) -> AsyncIterator[str]:
    """Yield a database made from another one, usually a freshly installed one, and dropped at the end."""
    connection = await asyncpg.connect(_with_database(server_url, "postgres"))
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        yield _with_database(server_url, name)
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await connection.close()


@pytest.fixture
async def own_database(own_database_url: str) -> AsyncIterator[Connection]:
    """Yield a connection as the owner of that one."""
    connection = await connect(own_database_url, application="tests")
    yield connection
    await connection.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Connection]:
    """Yield a connection as the owner of the database."""
    connection = await connect(database_url, application="tests")
    yield connection
    await connection.close()


@pytest.fixture
def settings(database_url: str) -> ServerSettings:
    """Return a server's settings, without a token."""
    return ServerSettings(database_url=database_url, visitor_secret=SECRET)


Start = Callable[[ServerSettings], Awaitable[Client]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a service with settings of the test's own; a background task that dies fails the test."""
    clients: list[Client] = []
    deaths: list[str] = []

    async def start_one(settings: ServerSettings) -> Client:
        client = TestClient(ProductionServer(create_app(settings, lambda: deaths.append("died"))))
        await client.start_server()
        clients.append(client)
        return client

    yield start_one
    for client in clients:
        await client.close()
    assert not deaths


@pytest.fixture
async def client(start: Start, settings: ServerSettings) -> Client:
    """Return a client of a running service."""
    return await start(settings)


@pytest.fixture
def drained(database: Connection) -> Callable[[], Awaitable[None]]:
    """Wait until every projection has folded the whole log."""
    return lambda: drained_projections(database)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def standing_servers(module_database_url: str) -> AsyncIterator[TwoServers]:
    """Two servers for a module's tests of builds."""
    async with open_two_servers(module_database_url) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def two_servers(standing_servers: TwoServers) -> TwoServers:
    """Those, and no build."""
    return await without_builds(standing_servers)
