"""A program of many commands: the module of one is loaded when that is what is run."""

from __future__ import annotations

import errno
import gc
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from usage_service.shared.errors import UserError
from usage_service.shared.exit_codes import EPILOGUE, ExitCode
from usage_service.shared.interrupts import raise_when_interrupted
from usage_service.shared.logs import configure_logs
from usage_service.shared.options import asking
from usage_service.shared.settings import LogSettings, load_settings
from usage_service.shared.tables import tell, visible

ANSWERED_BY_ITSELF = frozenset({"--version", "--show-completion", "--install-completion"})
HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")  # what a byte of an argument becomes that is not UTF-8
DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


def make_program(about: str, groups: Mapping[str, Mapping[str, str]], arguments: Sequence[str]) -> typer.Typer:
    """Return the program with the command that the arguments begin with, or with all where they name none.

    `about` says what the program is for. `groups` has by title what the help shows together: the name of a command and
    the `module:attribute` of its function, or of its own program of commands. To load all takes longer than most run.
    """
    program = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
    program.callback(help=about, epilog=EPILOGUE)(prepare)
    wanted = _named(arguments, [name for places in groups.values() for name in places])
    for title, places in groups.items():
        for name in (name for name in places if name in wanted):
            module, _, attribute = places[name].partition(":")
            found = getattr(import_module(module), attribute)
            if isinstance(found, typer.Typer):
                registered: list[Any] = [*found.registered_commands, found.registered_callback]
                for one in registered:
                    if one and one.callback:
                        one.callback = asking(one.callback)
                program.add_typer(found, name=name, rich_help_panel=title)
            else:
                program.command(name, rich_help_panel=title)(asking(found))
    return program


def _named(arguments: Sequence[str], names: Sequence[str]) -> Sequence[str]:
    """Return the command that is run, or those that complete what is typed; any one for an option of the program."""
    typed = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS") or ""
    words = list(arguments) or typed.split()[1:]
    if words and words[0] in ANSWERED_BY_ITSELF:
        return names[:1]
    if words and words[0] in names:
        return words[:1]
    begun = [name for name in names if words and not arguments and name.startswith(words[0])]
    return begun or names


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


@contextmanager
def telling_what_stays(told: str) -> Iterator[None]:
    """Say what there is of the work in a block, and how it goes on, where Ctrl-C ends it."""
    try:
        yield
    except KeyboardInterrupt:
        tell(f"stopped; {told}", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def run_program(name: str, program: Callable[[], object]) -> None:
    """Run a program; an error that the user can mend, or a disk that takes no more, is one line and its exit code.

    It ends without a word where nobody reads its output any more. `program` returns an exit code, or nothing.
    """
    raise_when_interrupted()
    gc.enable()
    try:
        ended = program()
        sys.stdout.flush()
    except BrokenPipeError:
        _end_unread()
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # what Typer makes of it
            _end_unread()
        raise
    except UnicodeEncodeError:
        word = next((word for word in sys.argv if HALF_A_CHARACTER.search(word)), None)
        if word is None:
            raise
        _end(name, f"{visible(word)} is not UTF-8; check how the terminal spells it", ExitCode.REFUSED)
    except TyperException as error:
        _end(name, _usage(error), error.exit_code)
    except (UserError, OSError) as error:
        if (told := _told(error)) is None:
            raise
        _end(name, told, _exit_code(error))
    except ExceptionGroup as group:
        told = _told(group.exceptions[0])
        if told is None or group.split(lambda error: _told(error) is not None)[1] is not None:
            raise
        _end(name, told, _exit_code(group.exceptions[0]))
    if isinstance(ended, int) and ended:
        sys.exit(ended)


def _usage(error: TyperException) -> str:
    """Return what is wrong with the words of a command, and where it says what is right; "" where it was shown."""
    said = error.format_message()
    context = getattr(error, "ctx", None)
    return f"{said.rstrip('.')}; see `{context.command_path} --help`" if said and context else said


def _told(error: BaseException) -> str | None:
    """Return what to say of an error that the user can mend, else None."""
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        what = error.filename or "what it writes"
        return f"{what} cannot be written: {os.strerror(error.errno)}; make room, or choose another place"
    if isinstance(error, OSError) and error.filename and _is_named(str(error.filename)):
        return f"{error.filename}: {error.strerror}; name another file"
    return str(error) if isinstance(error, UserError) else None


def _is_named(path: str) -> bool:
    """Return whether the words of the command name a file, its directory or its name without what comes after a dot."""
    named = (word.partition("=")[2] if word.startswith("--") else word for word in sys.argv[1:])
    return any(path == word or path.startswith((f"{word}.", f"{word.rstrip('/')}/")) for word in named if word)


def _exit_code(error: BaseException) -> int:
    return error.exit_code if isinstance(error, UserError) else ExitCode.REFUSED


def _end_unread() -> NoReturn:
    """End as what SIGPIPE kills does; what is left to write goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    sys.exit(ExitCode.UNREAD)


def _end(name: str, told: str, exit_code: int) -> NoReturn:
    if told:
        tell(f"{name}: {' '.join(told.split())}", err=True, color="red")
    sys.exit(exit_code)
