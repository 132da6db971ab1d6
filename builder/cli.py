"""The `probe-builder` command."""

import sys
from collections.abc import Sequence

import typer

from usage_service.shared.commands import make_program, run_program

ABOUT = "Aggregate missing probes on BigQuery and store their rows."
COMMANDS = {
    "run": "builder.commands.running:run_command",
    "settings": "builder.commands.running:settings_command",
    "failed": "builder.commands.dead_letters:failed_command",
    "retry": "builder.commands.dead_letters:retry_command",
    "night": "builder.commands.night:night_command",
    "sink-tables": "builder.commands.sinks:sink_tables_command",
    "etl-demo": "builder.commands.etl_demo:etl_demo_command",
    "warehouse": "warehouse.cli:app",
}


def make_app(arguments: Sequence[str] = ()) -> typer.Typer:
    """Return the program with the command that the arguments begin with, or with all of them."""
    return make_program(ABOUT, COMMANDS, arguments)


def main() -> None:
    """Run the command."""
    run_program("probe-builder", make_app(sys.argv[1:]))
