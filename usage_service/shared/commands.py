"""A program of many commands: the module of one is loaded when that is what is run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from usage_service.shared.errors import UserError
from usage_service.shared.logs import configure_logs
from usage_service.shared.settings import LogSettings, load_settings


def make_program(about: str, places: Mapping[str, str], arguments: Sequence[str]) -> typer.Typer:
    """Return the program with the command that the arguments begin with, or with all where they name none.

    `about` says what the program is for. `places` has a command's name and the `module:attribute` of its function, or
    of its own program of commands. To load all takes longer than most of them run.
    """
    program = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
    program.callback(help=about)(prepare)
    for name in _named(arguments, places):
        module, _, attribute = places[name].partition(":")
        found = getattr(import_module(module), attribute)
        if isinstance(found, typer.Typer):
            program.add_typer(found, name=name)
        else:
            program.command(name)(found)
    return program


def _named(arguments: Sequence[str], places: Mapping[str, str]) -> Sequence[str]:
    """Return the command that is run or completed; of `--version` any one, as the program answers it by itself."""
    typed = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS") or ""
    words = list(arguments) or typed.split()[1:]
    if words[:1] == ["--version"]:
        return [next(iter(places))]
    return words[:1] if words[:1] and words[0] in places else list(places)


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("glam-usage"))
        raise typer.Exit


def prepare(
    _version: Annotated[bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="show it")] = False,
) -> None:
    """Set up what all commands of both programs need: logs, as LOG_LEVEL and LOG_FORMAT say."""
    settings = load_settings(LogSettings)
    configure_logs(settings.log_level, settings.log_format)


def run_program(name: str, app: Callable[[], object]) -> None:
    """Run a program; a UserError is one line on stderr and exit code 2."""
    try:
        app()
    except UserError as error:
        _complain(name, error)
    except ExceptionGroup as group:
        expected, others = group.split(UserError)
        if expected is None or others is not None:
            raise
        _complain(name, expected.exceptions[0])


def _complain(name: str, error: BaseException) -> NoReturn:
    Console(stderr=True).print(f"{name}: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(2)
