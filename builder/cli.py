"""The `probe-builder` command."""

import sys
from collections.abc import Sequence
from functools import partial

import typer

from builder.commands.places import ABOUT, GROUPS
from usage_service.shared.commands import make_program, run_program


def make_app(arguments: Sequence[str] = ()) -> typer.Typer:
    """Return the program with the command that the arguments begin with, or with all of them."""
    return make_program(ABOUT, GROUPS, arguments)


def main() -> None:
    """Run the command."""
    run_program("probe-builder", partial(make_app(sys.argv[1:]), standalone_mode=False))
