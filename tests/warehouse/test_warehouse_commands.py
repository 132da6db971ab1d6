"""`python -m warehouse`: seed, serve and query, as a user runs them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner, Result

from tests.support.warehouse_support import ENDLESS, NEVER, over_pings, rows, seeded, start
from usage_service.shared.bigquery.jobs import make_client
from warehouse.cli import WarehouseCommandError, app
from warehouse.errors import WarehouseFileError
from warehouse.sample.pings import PROJECT

SECONDS = 40


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return seeded(tmp_path_factory).parent


def run(*arguments: str, directory: Path) -> Result:
    """Run a command within this process, piped, with the data directory in the environment."""
    return CliRunner().invoke(app, arguments, env={"PROBE_BUILDER_WAREHOUSE_DIR": str(directory)})


def run_beside(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, which tells on stderr what it imports."""
    environment = os.environ | {"PROBE_BUILDER_WAREHOUSE_DIR": str(directory), "PYTHONPROFILEIMPORTTIME": "1"}
    command = [sys.executable, "-m", "warehouse", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.fixture(scope="module")
def address(directory: Path) -> Iterator[str]:
    """Return the URL of a server for all tests that leave it running."""
    with server(directory) as (_, address):
        yield address


@contextmanager
def server(directory: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a server of the warehouse and yield its process and its URL."""
    command = [sys.executable, "-m", "warehouse", "serve", "--port", "0", "--data-dir", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout
            line = next(line for line in process.stdout if "warehouse_ready" in line)
            yield process, json.loads(line)["url"]
        finally:
            process.terminate()
            process.wait(SECONDS)


def test_query_prints_csv_when_piped_and_loads_no_client_of_bigquery(directory: Path) -> None:
    done = run_beside("query", "SELECT 1 AS one, 'a,b' AS two, NULL AS three", directory=directory)
    assert (done.returncode, done.stdout) == (0, 'one,two,three\n1,"a,b",\n')
    assert "duckdb" in done.stderr
    assert "google.cloud" not in done.stderr


def test_query_prints_a_table_or_json_when_told_to(directory: Path) -> None:
    sql = "SELECT DATE '2026-01-02' AS day, [1, 2] AS many, NULL AS none"
    as_json = run("query", sql, "--format", "json", directory=directory)
    assert json.loads(as_json.stdout) == [{"day": "2026-01-02", "many": [1, 2], "none": None}]
    as_table = run("query", sql, "--format", "table", directory=directory)
    assert all(text in as_table.stdout for text in ("day", "2026-01-02", "[1, 2]", "NULL"))


def test_query_tells_what_is_wrong_in_one_line(directory: Path, tmp_path: Path) -> None:
    wrong = run("query", "SELECT nope", directory=directory)
    assert isinstance(wrong.exception, WarehouseCommandError)
    assert str(wrong.exception) == "Unrecognized name: nope at [1:8]"
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "warehouse.duckdb").write_bytes(b"no database")
    for where, said in ((tmp_path, "seed the warehouse first"), (tmp_path / "damaged", "seed the warehouse again")):
        for command in (("query", "SELECT 1"), ("serve", "--port", "0")):
            done = run(*command, directory=where)
            assert isinstance(done.exception, WarehouseFileError)
            assert said in str(done.exception)


def test_seed_is_a_no_op_the_second_time(tmp_path: Path) -> None:
    arguments = ("seed", "--clients", "20", "--probes", "2", "--until", "2026-03-31")
    with structlog.testing.capture_logs() as logged:
        first, second = run(*arguments, directory=tmp_path), run(*arguments, directory=tmp_path)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert [line["written"] for line in logged if line["event"] == "seed_ready"] == [True, False]


@pytest.mark.parametrize("day", ["2026-02-30", "today", "0001-01-01", "9999-12-31"])
def test_a_day_that_cannot_be_is_refused(tmp_path: Path, day: str) -> None:
    told = run("seed", "--until", day, directory=tmp_path).output.replace("│", " ").split()
    assert "must be a day from 2000-01-01 to 2999-12-31" in " ".join(told)


def test_a_seed_says_what_it_replaces_as_its_help_does(tmp_path: Path) -> None:
    arguments = ("seed", "--clients", "20", "--probes", "2", "--until", "2026-03-31")
    with structlog.testing.capture_logs() as logged:
        for more in ((), ("--seed", "7")):
            assert run(*arguments, *more, directory=tmp_path).exit_code == 0
    first, second = [line["in_place_of"] for line in logged if line["event"] == "warehouse_seeded"]
    assert first is None
    assert "20 clients, seed 1, until 2026-03-31" in second
    assert "in place of those made with other options" in " ".join(
        run("seed", "--help", directory=tmp_path).stdout.split()
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_stops_soon_even_while_a_query_runs(directory: Path, number: signal.Signals) -> None:
    with server(directory) as (process, address), closing(make_client(PROJECT, address, "US")) as client:
        assert rows(client, over_pings("SELECT COUNT(*) > 0 FROM pings WHERE submission_timestamp > '2026-01-01'")) == [
            (True,)
        ]
        job = start(client, ENDLESS)
        deadline = time.monotonic() + SECONDS
        while job.state != "RUNNING":
            assert time.monotonic() < deadline
            job.reload(retry=NEVER)
        process.send_signal(number)
        assert process.wait(SECONDS) == 0


def test_query_asks_a_running_server(address: str, tmp_path: Path) -> None:
    done = run("query", "SELECT [1, 2] AS a", "--url", address, directory=tmp_path)
    assert (done.exit_code, done.stdout) == (0, 'a\n"[1, 2]"\n')


def test_a_taken_port_is_told_in_one_line(directory: Path, address: str) -> None:
    done = run("serve", "--port", address.rsplit(":", 1)[1], directory=directory)
    assert isinstance(done.exception, WarehouseCommandError)
    assert "address already in use" in str(done.exception)
