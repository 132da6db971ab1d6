"""compose.yaml, with Docker or Podman: it comes up, does the main job, outlives kills, and leaves nothing behind."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import requests

from tests.support.composition import REQUEST_SECONDS, ROOT, Composition, Engine, composed, needed_engine, wait_until
from tests.support.servers import JsonObject, event

LASTING = ["postgres", "server", "builder", "warehouse"]
SAMPLE_CLIENTS = "3000"
SEEN = "fog_initialization"
# Whose probe is built while it is killed.
BUILT_AROUND = {
    "postgres": "gfx_target_frame_rate",
    "server": "http_request_per_page",
    "builder": "widget_dark_mode",
    "warehouse": "places_bookmarks_count",
}

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("composition")]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return needed_engine()


@pytest.fixture(scope="module")
def system(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """Start what `up` starts by default, with the sample's probes in its catalogue."""
    with composed(engine, tmp_path_factory.mktemp("default"), PROBE_BUILDER_SAMPLE_CLIENTS=SAMPLE_CLIENTS) as made:
        made.up()
        fill_catalogue(made)
        yield made


def fill_catalogue(system: Composition) -> None:
    """Import the catalogue that the embedded warehouse has made, as the guide says."""
    where = {"USAGE_SERVICE_URL": "http://server:8080", "USAGE_SERVICE_TOKEN": system.settings["USAGE_SERVICE_TOKEN"]}
    wait_until(lambda: system.is_healthy("warehouse"), "the warehouse's data")
    imported = system.execute("warehouse", "usage-service", "import", "/data/catalogue.ndjson", **where)
    assert imported.returncode == 0, imported.stderr


def viewed(probe: str, **fields: object) -> JsonObject:
    """Return the event of somebody who views a probe now."""
    return event("probe_viewed", probe=probe, occurred_at=datetime.now(UTC).isoformat(), **fields)


def record(system: Composition, *events: JsonObject) -> int:
    """Post events until they are acknowledged, as a client does; return the last position."""
    last: list[requests.Response] = []

    def acknowledged() -> bool:
        try:
            last.append(system.http.post(f"{system.url}/v1/events", json=list(events), timeout=REQUEST_SECONDS))
        except requests.RequestException:
            return False
        assert last[-1].status_code in {201, 200, 429, 503}, last[-1].text
        return last[-1].status_code < 400

    wait_until(acknowledged, "the events are acknowledged")
    return max(int(item["position"]) for item in last[-1].json()["events"])


def views(system: Composition, probe: str, at_least: int) -> int:
    """Return how often a probe was viewed, in an answer that has seen the position."""
    asked = {"product": "fog", "at_least": str(at_least), "wait": "60"}
    answer = system.http.get(f"{system.url}/v1/popularity", params=asked, timeout=REQUEST_SECONDS)
    assert answer.status_code == 200, answer.text
    return sum(one["views"] for one in answer.json()["probes"] if one["probe"] == probe)


def ask(system: Composition, probe: str) -> str:
    """Ask for a build; return where to follow it, which is at the rows where there are any."""
    wanted = {"product": "fog", "channel": "nightly", "probe": probe}
    answer = system.http.post(f"{system.url}/v1/builds", json=wanted, timeout=REQUEST_SECONDS, allow_redirects=False)
    assert answer.status_code in {202, 303}, answer.text
    return answer.headers["Location"]


def follow(system: Composition, build: str) -> list[JsonObject]:
    """Follow a build to its end, whatever is away meanwhile, and return the rows of its probe."""
    rows: list[JsonObject] = []

    def over() -> bool:
        try:
            answer = system.http.get(system.url + build, headers={"Prefer": "wait=10"}, timeout=REQUEST_SECONDS)
        except requests.RequestException:
            return False
        assert answer.status_code in {200, 503}, answer.text
        found = answer.json()
        assert found.get("state") not in {"failed", "cancelled"}, found
        rows.extend(found.get("rows") or [])
        return bool(rows)

    wait_until(over, f"{build} has ended")
    return rows


def test_the_main_job(system: Composition) -> None:
    seen = [viewed(SEEN, channel="nightly", visitor=f"visitor {n}") for n in range(20)]
    assert views(system, SEEN, record(system, *seen)) == 20
    rows = follow(system, ask(system, SEEN))
    assert len(rows) > 10
    assert all(sum(row["histogram"].values()) == pytest.approx(1, abs=0.01) for row in rows)


def test_images_say_their_commit(system: Composition) -> None:
    """Each program answers /__version__ with the commit that its image was built of."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    own = system.http.get(f"{system.url}/__version__", timeout=REQUEST_SECONDS).json()
    assert own["commit"].removesuffix("-changed") == head.strip()
    program = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"
    for address in ("http://builder:9091", "http://warehouse:9050"):
        told = system.execute("server", "python", "-c", program, f"{address}/__version__")
        assert own["commit"] in told.stdout, told.stderr


def test_health_checks_pass(system: Composition) -> None:
    for service in LASTING:
        wait_until(partial(system.is_healthy, service), f"the health check of {service}")


def test_nobody_has_rights_or_a_place_to_write(system: Composition) -> None:
    for service in LASTING:
        assert system.execute(service, "id", "-u").stdout.strip() != "0", service
        assert system.execute(service, "touch", "/usr/here").returncode != 0, service
        assert "CapEff:\t0000000000000000" in system.execute(service, "cat", "/proc/1/status").stdout, service


@pytest.mark.parametrize("service", LASTING)
def test_what_is_killed_comes_back_and_the_job_goes_on(system: Composition, service: str) -> None:
    probe, before = f"seen_around_{service}", system.pid(service)
    record(system, viewed(probe))
    build = ask(system, BUILT_AROUND[service])
    system.kill(service)
    end = record(system, viewed(probe))
    wait_until(lambda: system.pid(service) not in {0, before}, f"{service} is started again")
    system.wait_until_well()
    assert views(system, probe, end) == 2
    assert follow(system, build)


def test_all_killed_at_once_come_back(system: Composition) -> None:
    end = record(system, viewed("seen_before"))
    for service in LASTING:
        system.kill(service)
    wait_until(lambda: all(system.pid(service) for service in LASTING), "all are started again")
    system.wait_until_well()
    assert views(system, "seen_before", end) == 1
    assert follow(system, ask(system, "policies_is_enterprise"))


def test_taken_down_and_brought_up_it_has_its_data(system: Composition) -> None:
    end = record(system, viewed("seen_before_down"))
    system.compose("down")
    assert system.status("/__heartbeat__") is None
    system.up()
    assert views(system, "seen_before_down", end) == 1
    assert follow(system, ask(system, SEEN))


def test_with_the_pooler_prometheus_and_three_builders(engine: Engine, tmp_path: Path) -> None:
    """Prometheus finds every server and builder, without a token; the programs work through the pooler."""
    settings = {
        "PROFILES": "pooler monitoring",
        "DATABASE_ADDRESS": "pgbouncer:6432",
        "PROBE_BUILDER_SAMPLE_CLIENTS": SAMPLE_CLIENTS,
    }
    with composed(engine, tmp_path, **settings) as system:
        system.up("--scale", "builder=3")
        assert len(system.containers("builder")) == 3
        assert "connected_through_a_pooler" in system.engine.run("logs", system.container("server")).stderr
        fill_catalogue(system)
        assert follow(system, ask(system, SEEN))
        prometheus = f"http://127.0.0.1:{system.ports['PROMETHEUS_PORT']}"

        def found() -> bool:
            answer = requests.get(f"{prometheus}/api/v1/query", params={"query": "up == 1"}, timeout=10).json()
            jobs = sorted(one["metric"]["job"] for one in answer["data"]["result"])
            return jobs == ["probe-builder"] * 3 + ["usage-service"]

        wait_until(found, "Prometheus has read the metrics of all")
        rules = requests.get(f"{prometheus}/api/v1/rules", timeout=10).json()
        assert {rule["health"] for group in rules["data"]["groups"] for rule in group["rules"]} <= {"ok", "unknown"}
        assert all(system.is_healthy(service) for service in ("pgbouncer", "prometheus"))
