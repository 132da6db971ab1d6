"""`usage-service up`: comes up from nothing, what it and the tutorial say works, GLAM finds rows."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from builder.aggregates.metric_shapes import SHAPES
from tests.support.pipes import fill
from tests.support.snippets import HERE, SHOWN, Shell, all_snippets, has_shape, snippets
from usage_service.local.ports import free_port

SECONDS = 90.0
SAMPLE = {"PROBE_BUILDER_SAMPLE_CLIENTS": "300", "PROBE_BUILDER_SAMPLE_PROBES": "47"}
LABELED = {kind for kind in SHAPES if kind.startswith("labeled_")}

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("up")]


class Up:
    """A running local stack, in a process group of its own as under a terminal."""

    def __init__(self, data_dir: Path, terminal: Path | None = None) -> None:
        self.data_dir = data_dir
        self.output = terminal or data_dir.with_suffix(".out")
        self.port = free_port()
        settings = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "usage_service", "up", "--port", str(self.port), "--data-dir", str(data_dir)],
                stdout=output,
                stderr=output,
                env=settings | SAMPLE,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.output.read_text()

    def wait_until_ready(self) -> str:
        wait_for(lambda: "Ctrl-C stops everything" in self.said() or self.process.poll() is not None, "the tour")
        assert self.process.poll() is None, self.said()
        return self.said()

    def child(self, name: str) -> psutil.Process:
        """Return the child process whose command line ends with the name."""
        own = psutil.Process(self.process.pid).children()
        return next(child for child in own if name in " ".join(child.cmdline()))

    def everything(self) -> list[psutil.Process]:
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]


@contextmanager
def running(data_dir: Path, terminal: Path | None = None) -> Iterator[Up]:
    up = Up(data_dir, terminal)
    try:
        yield up
    finally:
        up.process.kill()
        up.process.wait(SECONDS)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {SECONDS} s: {what}"
        time.sleep(0.2)  # what is asked here is recorded, too


def gone(processes: list[psutil.Process]) -> bool:
    return not any(runs(process) for process in processes)


def runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):  # it has ended since it was asked for
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the data directory that the tests of this module share: each starts on the data of the one before."""
    return tmp_path_factory.mktemp("up") / "data"


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl to paste the tour's commands to")
def test_the_tour_works_when_pasted_and_glams_front_end_finds_each_metric_type(data_dir: Path) -> None:
    with running(data_dir) as up:
        tour = [line for line in up.wait_until_ready().splitlines() if line.startswith("curl ")]
        answers = [
            subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
            for line in tour
        ]
        popular, hot, sessions, posted, asked, rows = (answer.stdout for answer in answers)
        assert len(json.loads(popular)["probes"]) == 3
        assert len(json.loads(hot)["probes"]) == 5
        assert len(json.loads(sessions)["sessions"]) == 2
        assert json.loads(posted)["events"][0]["status"] == "recorded"
        assert asked.startswith("HTTP/1.1 202")
        assert re.search(r"^Location: /v1/builds/", asked, re.MULTILINE)
        assert re.search(r"^Retry-After: \d", asked, re.MULTILINE)
        built = json.loads(rows)
        assert built["state"] == "succeeded"
        assert built["rows"]
        assert {row["os"] for row in built["rows"]} == {"*"}
        assert sum(built["rows"][0]["histogram"].values()) == pytest.approx(1, abs=0.01)
        paste_the_tutorial(up)
        see_each_metric_type(up, json.loads(posted)["events"][0]["position"])
        everything = up.everything()
        os.killpg(up.process.pid, signal.SIGINT)  # as Ctrl-C on a terminal
        assert up.process.wait(SECONDS) == 0
        assert gone(everything)


def paste_the_tutorial(up: Up) -> None:
    """Paste what docs/tutorial.md says, from its second terminal on: it prints what the tutorial shows."""
    shell = Shell(up.data_dir.parent, f"http://127.0.0.1:{up.port}", COLUMNS="200")
    export, record, *others = snippets("docs/tutorial.md", "sh")
    shell.run(export.text)
    recorded = shell.run(record.text)
    views(up, f"&at_least={json.loads(recorded)['events'][0]['position']}&wait=30")  # whoever pastes takes as long
    seen, built, hot, replayed = [shell.run(one.text) for one in others]
    shown_recorded, shown_seen, shown_built = [
        one.text for one in all_snippets("docs/tutorial.md") if one.language in SHOWN
    ]
    assert has_shape(json.loads(recorded), json.loads(shown_recorded))
    table, answer = seen.rsplit("\n", 1)
    assert "networking_dns_lookup_time" in table
    assert has_shape(json.loads(answer), json.loads(shown_seen))
    assert built == shown_built.replace(HERE, shell.url)
    assert len(hot.splitlines()) == 6
    assert json.loads(replayed.splitlines()[0]).keys() == {"searches", "views"}
    page = urllib.request.Request(
        f"{shell.url}/probes/fog/networking_dns_lookup_time?channel=nightly",
        headers={"Authorization": f"Bearer {(up.data_dir / 'token').read_text().strip()}"},
    )
    with urllib.request.urlopen(page, timeout=30) as response:
        assert b"Compare two versions, builds" in response.read()


def see_each_metric_type(up: Up, after: int) -> None:
    """Send what GLAM's front end asks, in its order: each type is a miss, a build, then rows, views and an update.

    What was viewed before is in the log up to the position `after`.
    """
    probes = ask(up, "/api/v1/probes/")[1]["probes"].values()
    # The front end asks for labels where none are declared: of a type, such a probe where there is one.
    of_type = {probe["type"]: probe["name"] for probe in sorted(probes, key=lambda probe: probe["labels"] is None)}
    assert set(of_type) >= set(SHAPES)
    viewed = views(up, f"&at_least={after}&wait=10")
    for kind in SHAPES:
        query = data_query(of_type[kind])
        if kind in LABELED:
            assert ask(up, "/api/v1/labels/", query) == (200, {"labels": []})
        status, missed = ask(up, "/api/v1/data/", query)
        assert (status, missed.get("build", "")[:11]) == (404, "/v1/builds/"), (kind, missed)
    for kind in SHAPES:
        query = data_query(of_type[kind])
        wait_for(partial(has_rows, up, query), f"rows of {kind}")
        if kind in LABELED:
            labels = ask(up, "/api/v1/labels/", query)[1]["labels"]
        rows = ask(up, "/api/v1/data/", query)[1]["response"]
        assert all(row["metric_type"].startswith(kind) and row["build_id"] == "*" for row in rows)
        assert kind not in LABELED or set(labels) == {row["metric_key"] for row in rows}
        # Twice it had rows; that it had none before is no view for GLAM.
        wait_for(partial(has_views, up, query, viewed.get(query["probe"], 0) + 2), f"views of {kind}")
        status, updates = ask(up, "/api/v1/updates/?product=fog-nightly")
        assert status == 200
        assert updates["updates"]["fog-nightly"] >= finished(up, query)


def data_query(probe: str) -> dict[str, Any]:
    return {
        "product": "fog", "app_id": "nightly", "ping_type": "*", "os": "*", "probe": probe,
        "aggregationLevel": "version", "versions": 20, "metric_key": "",
    }  # fmt: skip


def has_rows(up: Up, query: dict[str, Any]) -> bool:
    return ask(up, "/api/v1/data/", query)[0] == 200


def has_views(up: Up, query: dict[str, Any], number: int) -> bool:
    return views(up).get(query["probe"]) == number


def views(up: Up, fresh: str = "") -> dict[str, int]:
    """Return how often GLAM counts each probe as viewed, as its ETL asks for it."""
    asked = "fromDate=20200101&fields=probe_name&actionType=PROBE_SEARCH&agg=count&product=fog"
    status, counts = ask(up, f"/api/v1/usage/?{asked}{fresh}")
    assert status == 200
    return {item["probe_name"]: item["total"] for item in counts}


def finished(up: Up, query: dict[str, Any]) -> str:
    """Return when the probe was last built."""
    product, channel, probe = query["product"], query["app_id"], query["probe"]
    status, answer = ask(up, f"/v1/builds?product={product}&channel={channel}&probe={probe}&limit=1")
    assert status == 200
    finished_at: str = answer["builds"][0]["finished_at"]
    return finished_at


def ask(up: Up, path: str, query: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Send a request as GLAM's back end passes it on; return the status and the body, which may be packed unasked."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{up.port}{path}",
        json.dumps({"query": query}).encode() if query else None,
        {"Authorization": f"Bearer {(up.data_dir / 'token').read_text().strip()}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            body = response.read()
            return response.status, json.loads(gzip.decompress(body) if path.startswith("/api/v1/usage/") else body)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.fixture
def stalled_terminal(tmp_path: Path) -> Iterator[Path]:
    """Make a terminal that shows nothing any more: whoever writes to it waits for ever."""
    path = tmp_path / "terminal"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDWR)
    fill(reader)
    yield path
    os.close(reader)


def test_a_part_that_dies_is_started_again_though_the_terminal_stalls(data_dir: Path, stalled_terminal: Path) -> None:
    with running(data_dir, stalled_terminal) as up:
        wait_for(lambda: well(up.port), "the heartbeat")
        for name in ("usage_service serve", "builder run", "warehouse serve", "postgres"):
            wait_for(partial(alive_again, up, name, 0), name)
            victim = up.child(name)
            victim.kill()
            wait_for(partial(alive_again, up, name, victim.pid), f"{name} again")
        wait_for(lambda: well(up.port), "the heartbeat")
        everything = up.everything()
        up.process.terminate()
        assert up.process.wait(SECONDS) == 0
        assert gone(everything)


def test_killed_it_leaves_no_process(data_dir: Path) -> None:
    with running(data_dir) as up:
        up.wait_until_ready()
        everything = up.everything()
        assert len(everything) > 5
        up.process.kill()
        up.process.wait(SECONDS)
        wait_for(lambda: gone(everything), "no process left")


def refused_start(data_dir: Path, port: int, **settings: str) -> tuple[int, str]:
    """Return the exit code of a stack that does not start, and the line that it says."""
    command = [sys.executable, "-m", "usage_service", "up", "--port", str(port), "--data-dir", str(data_dir)]
    inherited = {name: value for name, value in os.environ.items() if name != "MAKELEVEL"}
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, check=False, env=inherited | settings
    )
    [line] = ended.stderr.splitlines()
    return ended.returncode, line


def test_a_taken_port_is_said_in_a_line(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for settings, how in ({}, "--port"), ({"MAKELEVEL": "1"}, 'make run ARGS="--port PORT"'):
            code, line = refused_start(data_dir, port, **settings)
            assert (code, line.endswith(f"; choose another with {how}")) == (2, True), line
            assert f"port {port}" in line


def test_a_database_that_is_away_is_said_before_anything_is_made(tmp_path: Path) -> None:
    away = tmp_path / "away"
    code, line = refused_start(away, free_port(), DATABASE_URL="postgresql://u:pw@127.0.0.1:1/db")
    assert (code, away.exists()) == (3, False)
    assert "the database of DATABASE_URL was not reached" in line


def alive_again(up: Up, name: str, old_pid: int) -> bool:
    try:
        return up.child(name).pid != old_pid
    except (StopIteration, psutil.NoSuchProcess):
        return False


def well(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as connection:
            connection.sendall(b"GET /__heartbeat__ HTTP/1.0\r\n\r\n")
            return b" 200 " in connection.recv(100)
    except OSError:
        return False
