"""Pages of reference are what the code says: scopes, commands, settings, metrics, the schema; alerts have sections."""

from __future__ import annotations

import re
from typing import cast, get_args

import msgspec
import pytest
import yaml
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from builder.cli import make_app as make_builder_app
from builder.settings import BuilderSettings, WarehouseSettings
from tests.support.servers import Client
from tests.support.snippets import ROOT
from usage_service.cli import make_app
from usage_service.shared.schema import schema_text
from usage_service.shared.settings import ClientSettings, MirrorSettings, ServerSettings, UpSettings
from usage_service.shared.trace_export import TracingSettings
from usage_service.tokens import TokenScope
from usage_service.web.api.routes import ROUTES
from warehouse.cli import DEFAULT_DIR
from warehouse.sample.pings import SampleOptions
from warehouse.sample.probes import PROBES

KINDS: list[type[msgspec.Struct]] = [
    MirrorSettings,
    ServerSettings,
    UpSettings,
    ClientSettings,
    BuilderSettings,
    WarehouseSettings,
    TracingSettings,
]
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "ops/prometheus/alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text("utf-8")


def printed(name: str, stdin: str = "") -> str:
    """Return what the programs print of a page, one after the other."""
    programs = [make_app(), make_builder_app()] if name in ("commands", "settings", "metrics") else [make_app()]
    results = [CliRunner().invoke(program, ["reference", name], input=stdin) for program in programs]
    assert [result.exit_code for result in results] == [0] * len(programs)
    return "".join(result.stdout for result in results)


@pytest.mark.parametrize("name", ["scopes", "commands", "settings", "schema"])
def test_the_page_is_what_the_programs_print(name: str) -> None:
    assert page(name) == printed(name), "run: make reference"


async def test_metrics_are_those_of_the_programs(client: Client) -> None:
    await client.get("/v1/builds")
    exposed = await (await client.get("/metrics")).text()
    assert page("metrics") == printed("metrics", exposed), "run: make reference"


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_has_a_meaning_and_a_line(kind: type[msgspec.Struct]) -> None:
    for one in msgspec.structs.fields(kind):
        [line, *_] = [line for line in page("settings").splitlines() if line.startswith(f"| `{one.encode_name}` |")]
        assert len(line.split("|")[4].strip()) > 10, one.encode_name


def test_the_defaults_of_the_warehouse_are_those_of_its_commands() -> None:
    assert WarehouseSettings().warehouse_dir == str(DEFAULT_DIR)
    assert WarehouseSettings().sample_clients == SampleOptions.clients
    assert WarehouseSettings().sample_probes == len(PROBES)


def test_every_command_and_option_says_what_it_is_for() -> None:
    text = page("commands")
    for program, app in (("usage-service", make_app()), ("probe-builder", make_builder_app())):
        for name in cast("TyperGroup", get_command(app)).commands:
            assert re.search(rf"^### {program} {name}\n\n\w", text, re.MULTILINE), name
    assert not re.findall(r"^\| `--.*\|  \|$", text, re.MULTILINE)


def test_every_route_is_in_the_table_of_its_scope() -> None:
    sections = dict(re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", page("scopes"), re.MULTILINE | re.DOTALL))
    assert set(sections) == {"No token", *get_args(TokenScope)}
    for route in ROUTES:
        section = sections["No token" if route.scope == "open" else route.scope]
        assert f"| `{route.method} {route.path}` |" in section
    table = (ROOT / "docs/guides/access.md").read_text("utf-8").partition("| scope |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(get_args(TokenScope))


def test_every_table_and_function_of_the_schema_is_on_its_page() -> None:
    for kind, name in re.findall(r"^CREATE (TABLE|VIEW|FUNCTION) (\w+)", schema_text(), re.MULTILINE):
        assert (f"| `{name}` |" if kind == "FUNCTION" else f"### {name}\n") in page("schema"), name


def test_every_alert_has_a_section_and_every_section_an_alert() -> None:
    sections = re.findall(r"^## (\w+)\n\n`(\w+)`\. (.*?)\n\n(.*?)\n\n", page("guides/incidents"), re.MULTILINE)
    told = [(rule["alert"], rule["labels"]["severity"], rule["annotations"]["action"]) for rule in RULES]
    assert [(alert, severity, action) for alert, severity, _, action in sections] == told
    assert page("guides/incidents").count("\n## ") == len(told)
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/guides/incidents.md#{rule['alert'].lower()}"
