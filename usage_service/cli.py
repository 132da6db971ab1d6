"""The `usage-service` command."""

import sys
from collections.abc import Sequence

import typer

from usage_service.shared.commands import make_program, run_program

ABOUT = "Which probes of GLAM are viewed, and how people work with them."
COMMANDS = {
    "up": "usage_service.commands.up:up_command",
    "serve": "usage_service.commands.serving:serve_command",
    "migrate": "usage_service.commands.migrating:migrate_command",
    "import": "usage_service.commands.importing:import_command",
    "reference": "usage_service.commands.reference:reference_command",
    "export": "usage_service.commands.exporting:export_command",
    "replay": "usage_service.commands.replaying:replay_command",
    "projections": "usage_service.commands.projections:projections_app",
    "retention": "usage_service.commands.retention:retention_app",
    "verify": "usage_service.commands.projections:verify_command",
    "hotlist": "usage_service.commands.hotlist:hotlist_app",
    "backtest": "usage_service.commands.backtest:backtest_command",
    "experiment": "usage_service.commands.experiment:experiment_command",
    "sample-traffic": "usage_service.commands.backtest:sample_traffic_command",
    "token": "usage_service.commands.tokens:token_app",
    "popular": "usage_service.commands.popular:popular_command",
    "unused": "usage_service.commands.unused:unused_command",
    "sessions": "usage_service.commands.sessions:sessions_command",
    "releases": "usage_service.commands.releases:releases_app",
    "report": "usage_service.commands.report:report_command",
}


def make_app(arguments: Sequence[str] = ()) -> typer.Typer:
    """Return the program with the command that the arguments begin with, or with all of them."""
    return make_program(ABOUT, COMMANDS, arguments)


def main() -> None:
    """Run the command."""
    run_program("usage-service", make_app(sys.argv[1:]))
