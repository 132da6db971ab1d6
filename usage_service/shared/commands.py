"""A program of many commands: the module of one is loaded when that is what is run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import NoReturn

import typer
from rich.console import Console

from usage_service.shared.errors import UserError


def make_program(prepare: Callable[[], None], places: Mapping[str, str], arguments: Sequence[str]) -> typer.Typer:
    """The program with the command that the arguments begin with, or with all where they name none.

    `prepare` is called before any command, and says what the program is for. `places` has a command's name and the
    `module:attribute` of its function, or of its own program of commands. To load all takes longer than most of them
    run.
    """
    program = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    program.callback()(prepare)
    for name in arguments[:1] if arguments[:1] and arguments[0] in places else places:
        module, _, attribute = places[name].partition(":")
        found = getattr(import_module(module), attribute)
        if isinstance(found, typer.Typer):
            program.add_typer(found, name=name)
        else:
            program.command(name)(found)
    return program


def run_program(name: str, app: Callable[[], object]) -> None:
    """Runs it; what the user can mend is one line on stderr and exit code 2."""
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
