"""The `probe-builder` command."""

import sys
from collections.abc import Sequence

import typer

from usage_service.shared.commands import make_program, run_program
from usage_service.shared.logs import configure_logs
from usage_service.shared.settings import LogSettings, load_settings

COMMANDS = {
    "run": "builder.commands.running:run_command",
    "settings": "builder.commands.running:settings_command",
    "failed": "builder.commands.dead_letters:failed_command",
    "retry": "builder.commands.dead_letters:retry_command",
    "etl-demo": "builder.commands.etl_demo:etl_demo_command",
    "warehouse": "warehouse.cli:app",
}


def make_app(arguments: Sequence[str] = ()) -> typer.Typer:
    """The program with the command that the arguments begin with, or with all of them."""
    return make_program(prepare, COMMANDS, arguments)


def prepare() -> None:
    """Computes missing probes on BigQuery and stores their rows."""
    settings = load_settings(LogSettings)
    configure_logs(settings.log_level, settings.log_format)


def main() -> None:
    """Runs the command."""
    run_program("probe-builder", make_app(sys.argv[1:]))
