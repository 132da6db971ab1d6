"""The `usage-service` command."""

import sys

import typer
from rich.console import Console

from usage_service.analyses import ReplayError
from usage_service.backtest import BacktestError
from usage_service.commands.backtest import backtest_command, sample_traffic_command
from usage_service.commands.exporting import export_command
from usage_service.commands.hotlist import hotlist_app
from usage_service.commands.importing import import_command
from usage_service.commands.migrating import migrate_command
from usage_service.commands.popular import popular_command
from usage_service.commands.projections import projections_app, verify_command
from usage_service.commands.reference import reference_command
from usage_service.commands.releases import releases_command
from usage_service.commands.remote import RemoteError
from usage_service.commands.replaying import replay_command
from usage_service.commands.report import report_command
from usage_service.commands.retention import retention_app
from usage_service.commands.serving import serve_command
from usage_service.commands.sessions import sessions_command
from usage_service.commands.tokens import TokenError, token_app
from usage_service.commands.up import up_command
from usage_service.importing import UnreadableFileError
from usage_service.local.children import ChildError
from usage_service.local.embedded_postgres import EmbeddedPostgresError
from usage_service.local.parts import HouseError
from usage_service.log import LogReadError
from usage_service.maintenance import MaintenanceError
from usage_service.posting import PostError
from usage_service.shared.schema import DatabaseAwayError, SchemaMismatchError
from usage_service.shared.settings import SettingsError
from usage_service.web.server import ServerError

EXPECTED_ERRORS = (
    BacktestError,
    ChildError,
    DatabaseAwayError,
    EmbeddedPostgresError,
    HouseError,
    LogReadError,
    MaintenanceError,
    PostError,
    RemoteError,
    ReplayError,
    SchemaMismatchError,
    ServerError,
    SettingsError,
    TokenError,
    UnreadableFileError,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
app.command("up")(up_command)
app.command("serve")(serve_command)
app.command("migrate")(migrate_command)
app.command("import")(import_command)
app.command("reference")(reference_command)
app.command("export")(export_command)
app.command("replay")(replay_command)
app.add_typer(projections_app, name="projections")
app.add_typer(retention_app, name="retention")
app.command("verify")(verify_command)
app.add_typer(hotlist_app, name="hotlist")
app.command("backtest")(backtest_command)
app.command("sample-traffic")(sample_traffic_command)
app.add_typer(token_app, name="token")
app.command("popular")(popular_command)
app.command("sessions")(sessions_command)
app.command("releases")(releases_command)
app.command("report")(report_command)


def main() -> None:
    """Runs the command; what the user can mend is one line on stderr and exit code 2."""
    try:
        app()
    except EXPECTED_ERRORS as error:
        _complain(error)
    except ExceptionGroup as group:
        expected = group.subgroup(EXPECTED_ERRORS)
        if expected is None or group.split(EXPECTED_ERRORS)[1] is not None:
            raise
        _complain(expected.exceptions[0])


def _complain(error: BaseException) -> None:
    Console(stderr=True).print(f"usage-service: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(2)
