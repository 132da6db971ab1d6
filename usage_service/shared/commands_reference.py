"""Reference of a program's commands, made from the commands themselves (docs/commands.md)."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from typing import cast

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

HEAD = """# Commands

Made from the programs by `usage-service reference commands` and `probe-builder reference commands`; a test keeps it
true. `--help` of a command says the same.
"""


def commands_reference(program: str, module: str) -> str:
    """Write a section in Markdown for the program that the module makes, and one for each of its commands."""
    root = cast("TyperGroup", get_command(import_module(module).make_app()))
    return "\n".join([f"## {program}", "", _help(root), "", *_sections(root, program)])


def _sections(command: TyperCommand | TyperGroup, words: str) -> Iterator[str]:
    """Write the commands under one: their arguments and options."""
    commands = getattr(command, "commands", {})
    for name, one in commands.items():
        arguments = [part.name.upper() for part in one.params if part.param_type_name == "argument"]
        yield from (f"### {' '.join([words, name])}", "", _help(one), "")
        if not getattr(one, "commands", None):
            yield from ("```text", " ".join([words, name, *arguments, "[OPTIONS]"]), "```", "")
        if rows := [_row(part) for part in one.params if not part.hidden and part.name != "help"]:
            yield from ("| option | default | meaning |", "|---|---|---|", *rows, "")
        yield from _sections(one, f"{words} {name}")


def _help(command: TyperCommand | TyperGroup) -> str:
    return inspect.cleandoc(command.help or "")


def _row(part: TyperArgument | TyperOption) -> str:
    """Write the line of an argument or option: its names, its default or its variable, and what it means."""
    argument = part.param_type_name == "argument"
    names = part.name.upper() if argument else ", ".join([*part.opts, *part.secondary_opts])
    variable = f" (`{part.envvar}`)" if part.envvar else ""
    meaning = (part.help or "").replace("|", "\\|")
    return f"| `{names}` | {_default(part)} | {meaning}{variable} |"


def _default(part: TyperArgument | TyperOption) -> str:
    if part.required:
        return "needed"
    if isinstance(part.show_default, str):
        return f"`{part.show_default}`"
    if part.default is True and part.opts:
        return f"`{part.opts[0]}`"
    shown = part.default is not None and not callable(part.default) and part.default not in (False, ())
    return f"`{part.default}`" if shown else ""
