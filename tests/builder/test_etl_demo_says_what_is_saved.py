"""The command `probe-builder etl-demo`: the nightly ETL with all probes and with the hot list, and the views missed."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest

from builder.etl_demo.nights import SAMPLE_OPTIONS, Built, NewProbe, Night, build_all, compare, requests_of
from builder.etl_demo.views import ProbeViews, made_up_views, views_of_service
from tests.support.warehouse_support import UNTIL, nothing, seeded
from usage_service.shared.bigquery.jobs import make_client
from usage_service.shared.remote import RemoteError
from warehouse.sample.pings import PROJECT, SampleOptions
from warehouse.sample.probes import PROBES, sample_probes
from warehouse.sample.seeding import CATALOGUE, DATABASE, seed
from warehouse.serving import served

A, B, C = Built("a", "counter", 10, 1.0, 3), Built("b", "boolean", 20, 2.0, 4), Built("c", "event", error="no")
NIGHT = Night(1, 5, 0.5, 3, 7, 6)
VIEWS = ProbeViews({"a": 7, "b": 5, "elsewhere": 1}, ["a"], "a test")


def test_both_nights_are_sums_and_what_is_missed_is_what_was_asked_for() -> None:
    found = compare([A, B, C], NIGHT, VIEWS)
    assert found.in_one_pass == NIGHT
    assert found.new_probe == NewProbe(3.0, 1.5)
    assert found.all_probes == Night(2, 30, 3.0, 7, 12, 1)
    assert found.hot_list == Night(1, 10, 1.0, 3, 7, 6)
    assert [(missed.probe, missed.views, missed.bytes) for missed in found.missed] == [("b", 5, 20)]
    assert found.failed == [C]


def test_made_up_views_are_the_same_every_time_and_the_most_viewed_are_hot() -> None:
    names = [f"probe_{n}" for n in range(50)]
    found = made_up_views(names, 5)
    assert found == made_up_views(names[::-1], 5)
    assert sorted(found.by_probe.values(), reverse=True)[:5] == [found.by_probe[probe] for probe in found.hot]


@pytest.mark.parametrize("product", ["fog", "fenix"])
def test_every_probe_of_the_catalogue_is_asked_for_with_its_definition(
    product: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    requests = requests_of(seeded(tmp_path_factory).with_name(CATALOGUE), product, "nightly", UNTIL)
    known = {probe.name: probe for probe in PROBES if product in probe.products}
    assert [request.probe for request in requests] == sorted(known)
    for request in requests:
        probe = known[request.probe]
        assert (request.metric_type, set(request.pings)) == (probe.type, set(probe.pings))
        declared = probe.labels if probe.declared else ()
        assert request.definition.labels == declared
        assert request.definition.range_max == (probe.range.range_max if probe.range else None)


def test_a_probe_that_cannot_be_built_stops_none_of_the_others(tmp_path_factory: pytest.TempPathFactory) -> None:
    database = seeded(tmp_path_factory)
    wanted = {"wr_renderer_time", "widget_dark_mode"}
    found = requests_of(database.with_name(CATALOGUE), "fog", "nightly", UNTIL)
    requests = [request for request in found if request.probe in wanted]
    requests.insert(0, type(requests[0])(**(vars(requests[0]) | {"metric_type": "event"})))
    with served(database) as address, closing(make_client(PROJECT, address, "US")) as client:
        built = build_all(client, requests, SAMPLE_OPTIONS, nothing)
    assert [(item.error is None, item.bytes > 0) for item in built] == [(False, False), (True, True), (True, True)]


class Service(BaseHTTPRequestHandler):
    """A usage service that knows two probes."""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        allowed = self.headers["Authorization"] == "Bearer a-token"
        probes = {
            "/v1/popularity": [{"product": "fog", "probe": "a", "views": 7}, {"probe": "b", "views": 5}],
            "/v1/hotlist": [{"probe": "a", "score": 7.0}][: int(parse_qs(address.query).get("budget", ["9"])[0])],
        }[address.path]
        self.send_response(200 if allowed else 401)
        self.end_headers()
        self.wfile.write(json.dumps({"probes": probes}).encode())

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def service() -> Iterator[str]:
    """Start such a service and yield its address."""
    with HTTPServer(("127.0.0.1", 0), Service) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_running_service_is_asked_for_views_and_for_the_hot_list() -> None:
    with service() as url:
        assert views_of_service(url, "a-token", "fog", 3) == ProbeViews({"a": 7, "b": 5}, ["a"], url)
        with pytest.raises(RemoteError, match="401"):
            views_of_service(url, "another", "fog", 3)
    with pytest.raises(RemoteError, match="does not answer"):
        views_of_service(url, "a-token", "fog", 3)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command whose output is piped."""
    command = [sys.executable, "-m", "builder", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_piped_it_prints_json(tmp_path: Path) -> None:
    seed(tmp_path, SampleOptions(clients=40, until=datetime.now(UTC).date(), probes=sample_probes(2)), nothing)
    done = run("etl-demo", "--data-dir", str(tmp_path), "--budget", "1")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["all_probes"]["probes"], found["hot_list"]["probes"]) == (2, 1)
    assert found["all_probes"]["bytes"] > found["hot_list"]["bytes"] > 0
    same = ("probes", "rows", "bytes", "views_answered", "views_missed")  # one probe is read alike in both
    assert [found["in_one_pass"][name] for name in same] == [found["hot_list"][name] for name in same]
    assert len(found["missed"]) == 1


def test_a_warehouse_that_runs_on_the_same_pings_is_told_in_one_line(tmp_path: Path) -> None:
    seed(tmp_path, SampleOptions(clients=2, until=datetime.now(UTC).date(), probes=sample_probes(1)), nothing)
    with served(tmp_path / DATABASE) as address, closing(make_client(PROJECT, address, "US")) as client:
        client.create_dataset("a_dataset")  # makes the file of the tables, which is open from then on
        done = run("etl-demo", "--data-dir", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"probe-builder: {tmp_path / 'warehouse.tables' / 'tables.duckdb'} cannot be opened: ")
    assert "such as `make run`, stop that" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--product", "foq"), "nothing is known of product foq; did you mean fog?"),
        (("--channel", "nightlyy"), "nothing is known of channel nightlyy of fog; did you mean nightly?"),
    ],
)
def test_names_that_the_sample_does_not_have_are_refused(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = run("etl-demo", "--data-dir", str(tmp_path), *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"probe-builder: {said}\n")


def test_a_service_that_does_not_answer_is_told_in_one_line(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = seeded(tmp_path_factory).parent
    done = run("etl-demo", "--data-dir", str(directory), "--url", "http://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("probe-builder: http://127.0.0.1:1 does not answer (")
    assert done.stderr.count("\n") == 1
