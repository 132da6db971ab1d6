"""The guide has every metric with its meaning, and every alert with what to do, in the programs' own words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from builder.metrics import BuilderMetrics
from tests.support.servers import Client

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guides" / "operating.md").read_text("utf-8")
ALERTS = yaml.safe_load((ROOT / "ops" / "prometheus" / "alerts.yml").read_text("utf-8"))


def section(title: str) -> list[str]:
    """Return the rows of the table under a heading of the guide."""
    found = re.search(rf"^#+ {re.escape(title)}$(.*?)(?=^#|\Z)", GUIDE, re.MULTILINE | re.DOTALL)
    assert found, title
    return re.findall(r"^\| `.*\|$", found[1], re.MULTILINE)


def rows(exposition: str) -> Iterator[str]:
    for family in text_string_to_metric_families(exposition):
        name = family.name + ("_total" if family.type == "counter" else "")
        if not name.endswith("_created"):  # which the client library adds to each counter and histogram
            yield f"| `{name}` | {family.type} | {family.documentation} |"


async def test_metrics_of_a_server_are_in_the_guide(client: Client) -> None:
    await client.get("/v1/builds")
    assert sorted(rows(await (await client.get("/metrics")).text())) == section("Metrics of a server")


def test_metrics_of_a_builder_are_in_the_guide() -> None:
    assert sorted(rows(generate_latest(BuilderMetrics().registry).decode())) == section("Metrics of a builder")


def test_alerts_are_in_the_guide() -> None:
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    expected = [
        f"| `{rule['alert']}` | {rule['labels']['severity']} | {rule['annotations']['action']} |" for rule in rules
    ]
    assert expected == section("Alerts")
