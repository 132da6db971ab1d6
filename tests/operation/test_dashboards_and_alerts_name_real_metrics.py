"""The dashboard and the alerts under ops/ ask for metrics, labels and settings that there are."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import msgspec
import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from builder.commands import places as builder_places
from builder.metrics import BuilderMetrics
from builder.settings import BuilderSettings
from builder.work import Outcome
from tests.support.promtool import PROMTOOL
from tests.support.servers import Client, Connection
from usage_service.commands import places as service_places
from usage_service.shared.settings import ServerSettings

ROOT = Path(__file__).parents[2]
OPS = ROOT / "ops"
ALERTS_TEST = OPS / "prometheus" / "alerts_test.yml"
ALERTS = yaml.safe_load((OPS / "prometheus" / "alerts.yml").read_text("utf-8"))
DASHBOARD = json.loads((OPS / "grafana" / "dashboard.json").read_text("utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
QUERIES = [rule["expr"] for rule in RULES] + [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
]
NAMED = re.compile(r"\b(glam_[a-z_]+|up)\b(?:\{([^}]*)\})?")
SELECTOR = re.compile(r'(\w+)\s*(?:=~|!=|=)\s*"([^"]*)"')
GROUPED = re.compile(r"\bby \(([^)]*)\)")
KIND = re.compile(r"_(bucket|count|sum|total|created)$")
OF_PROMETHEUS = {"job", "instance", "le"}
A_SINK = (
    "INSERT INTO sink_channels (sink, product, channel, not_before, due_at) VALUES ('p.d', 'fog', 'beta', now(), now())"
)
A_MIRROR = "INSERT INTO mirrors (mirror, begins_after) VALUES ('p.d', 0)"


@pytest.fixture
async def labels(client: Client, database: Connection) -> dict[str, dict[str, set[str]]]:
    """Return the values of each label of each metric of a server and a builder, where there are a sink and a mirror."""
    builder = BuilderMetrics()
    await database.execute(A_SINK)
    await database.execute(A_MIRROR)
    await client.get("/v1/builds")
    await (await client.get("/v1/events")).read()
    text = await (await client.get("/metrics")).text()
    found: dict[str, dict[str, set[str]]] = {"up": {}}
    for exposition in (text, generate_latest(builder.registry).decode()):
        for family in text_string_to_metric_families(exposition):
            suffixes = ("", "_bucket", "_total") if family.type in {"histogram", "counter"} else ("",)
            for suffix in suffixes:
                found.setdefault(family.name + suffix, {})
            for sample in family.samples:
                for label, value in sample.labels.items():
                    found.setdefault(sample.name, {}).setdefault(label, set()).add(value)
    found["glam_http_requests_total"]["status"] |= {"500", "503"}
    for name in ("glam_builder_attempts_total", "glam_builder_attempt_seconds_bucket"):
        found[name]["outcome"] = {outcome.value for outcome in Outcome}
    return found


async def test_every_query_finds_something(labels: dict[str, dict[str, set[str]]]) -> None:
    for query in QUERIES:
        names = [name for name, _ in NAMED.findall(query)]
        assert names, query
        for name, selectors in NAMED.findall(query):
            assert name in labels, query
            for label, pattern in SELECTOR.findall(selectors):
                known = labels[name].get(label, set())
                assert label in OF_PROMETHEUS or any(re.fullmatch(pattern, value) for value in known), query
        for label in (one.strip() for group in GROUPED.findall(query) for one in group.split(",")):
            assert label in OF_PROMETHEUS or any(label in labels[name] for name in names), query


async def test_what_a_server_gives_is_shown(labels: dict[str, dict[str, set[str]]]) -> None:
    """But what only tells what another one does as well."""
    shown = {KIND.sub("", name) for query in QUERIES for name, _ in NAMED.findall(query)}
    families = {KIND.sub("", name) for name in labels if name.startswith("glam_")}
    told_otherwise = {
        "glam_projection_position",
        "glam_projection_failed_after_position",
        "glam_build_attempts",
        "glam_build_bytes",
    }
    assert families - shown == told_otherwise


def test_every_alert_says_what_to_do() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    for rule in RULES:
        assert rule["labels"]["severity"] in {"page", "ticket"}, rule["alert"]
        assert all(rule["annotations"][part] for part in ("summary", "action")), rule["alert"]


def test_commands_and_settings_in_the_alerts_exist() -> None:
    actions = " ".join(rule["annotations"]["action"] for rule in RULES)
    settings = {
        field.encode_name for kind in (ServerSettings, BuilderSettings) for field in msgspec.structs.fields(kind)
    }
    assert set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", actions)) <= settings
    groups = {"usage-service": service_places.GROUPS, "probe-builder": builder_places.GROUPS}
    commands = {name: {one for places in them.values() for one in places} for name, them in groups.items()}
    found = re.findall(r"`(usage-service|probe-builder) ([a-z-]+)", actions)
    assert found
    assert all(command in commands[program] for program, command in found)


def test_lines_of_the_logs_in_the_alerts_are_logged() -> None:
    lines = {line for rule in RULES for line in re.findall(r"`([a-z]+_[a-z_]+)`", rule["annotations"]["action"])}
    sources = [path.read_text("utf-8") for room in ("usage_service", "builder") for path in (ROOT / room).rglob("*.py")]
    assert lines
    assert [line for line in lines if not any(f'"{line}"' in source for source in sources)] == []


def test_each_alert_is_tested_on_its_fault() -> None:
    fired = re.findall(r'alertname="(\w+)"', ALERTS_TEST.read_text("utf-8"))
    assert {rule["alert"] for rule in RULES} == set(fired)


@pytest.mark.skipif(not PROMTOOL, reason="promtool is not installed (.ci/promtool)")
def test_alerts_fire_on_their_faults_and_not_while_all_is_well() -> None:
    command = [str(PROMTOOL), "test", "rules", str(ALERTS_TEST)]
    tested = subprocess.run(command, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_panels_do_not_overlap() -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)
