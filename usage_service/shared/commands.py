"""A program of many commands: the module of one is loaded when that is what is run."""

from __future__ import annotations

import errno
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

DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


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
    """Run a program; a UserError, or a disk that takes no more, is one line on stderr and exit code 2."""
    try:
        app()
    except (UserError, OSError) as error:
        if (told := _told(error)) is None:
            raise
        _complain(name, told)
    except ExceptionGroup as group:
        told = _told(group.exceptions[0])
        if told is None or group.split(lambda error: _told(error) is not None)[1] is not None:
            raise
        _complain(name, told)


def _told(error: BaseException) -> str | None:
    """Return what to say of an error that the user can mend, else None."""
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        what = error.filename or "what it writes"
        return f"{what} cannot be written: {os.strerror(error.errno)}; make room, or choose another place"
    return str(error) if isinstance(error, UserError) else None


def _complain(name: str, told: str) -> NoReturn:
    Console(stderr=True).print(f"{name}: {told}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(2)
