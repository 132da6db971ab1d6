"""The guide's reference of settings is what the code says."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from typer import Typer
from typer.testing import CliRunner

from builder import cli as builder_cli
from builder.settings import BuilderSettings, WarehouseSettings
from usage_service import cli as service_cli
from usage_service.shared.settings import ClientSettings, ServerSettings, UpSettings
from usage_service.shared.trace_export import TracingSettings
from warehouse.cli import DEFAULT_DIR
from warehouse.sample.pings import SampleOptions

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "operating.md"
PRINTED: dict[str, tuple[Typer, list[str]]] = {
    "usage-service reference settings": (service_cli.make_app(), ["reference", "settings"]),
    "probe-builder settings": (builder_cli.make_app(), ["settings"]),
}
KINDS: list[type[msgspec.Struct]] = [
    ServerSettings,
    UpSettings,
    ClientSettings,
    BuilderSettings,
    WarehouseSettings,
    TracingSettings,
]


@pytest.mark.parametrize("command", PRINTED)
def test_the_guide_has_what_the_command_prints(command: str) -> None:
    program, arguments = PRINTED[command]
    printed = CliRunner().invoke(program, arguments)
    assert printed.exit_code == 0
    assert printed.stdout in GUIDE.read_text("utf-8"), f"put what `{command}` prints into {GUIDE.name}"


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_has_a_meaning_and_a_line(kind: type[msgspec.Struct]) -> None:
    text = GUIDE.read_text("utf-8")
    for one in msgspec.structs.fields(kind):
        [line, *_] = [line for line in text.splitlines() if line.startswith(f"| `{one.encode_name}` |")]
        assert len(line.split("|")[4].strip()) > 10, one.encode_name


def test_the_defaults_of_the_warehouse_are_those_of_its_commands() -> None:
    assert WarehouseSettings().warehouse_dir == str(DEFAULT_DIR)
    assert WarehouseSettings().sample_clients == SampleOptions.clients
