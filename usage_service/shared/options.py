"""The options that commands of both programs have in common, each stated once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from usage_service.shared.files import is_same
from usage_service.shared.settings import PORT_FILE, TOKEN_FILE, kept_token, kept_url

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_DATA_DIR = Path("data")


def address_of(url: str) -> str:
    """Return the address that a URL, or a host and port alone, is of; raise BadParameter where it is none of HTTP."""
    address = url if "://" in url else f"http://{url}"
    if not _is_address(address):
        raise typer.BadParameter(f"{url} is no address of a service; give one such as {DEFAULT_URL}")
    return address


def given_address(url: str | None) -> str | None:
    """Return the address of an option that may be left out; raise BadParameter."""
    return None if url is None else address_of(url)


def _url(context: typer.Context, url: str) -> str:
    """Return the URL that is named, else that of the local stack that is named or runs here, if one does."""
    data_dir: Path = context.params.get("data_dir", DEFAULT_DATA_DIR)
    is_left_open = _source(context, "url") == "DEFAULT" or _is_of_stack(context, "url")
    return address_of((is_left_open and kept_url(data_dir / PORT_FILE.name)) or url)


def _token(context: typer.Context, token: str | None) -> str | None:
    """Return the token that is named, else that of the local stack that is named."""
    if not _is_of_stack(context, "token"):
        return token
    data_dir: Path = context.params["data_dir"]
    return kept_token(data_dir / TOKEN_FILE.name) or token


def _is_of_stack(context: typer.Context, name: str) -> bool:
    """Return whether the words of the command name a local stack, and not this option: they win over variables."""
    return _source(context, "data_dir") == "COMMANDLINE" and _source(context, name) != "COMMANDLINE"


def _source(context: typer.Context, name: str) -> str | None:
    source = context.get_parameter_source(name)
    return source and source.name


def _running(context: typer.Context, data_dir: Path) -> Path:
    """Return the directory of a local stack; raise BadParameter where it is named and none runs."""
    if _source(context, "data_dir") == "COMMANDLINE" and kept_url(data_dir / PORT_FILE.name) is None:
        raise typer.BadParameter(f"no service runs there: start `usage-service up --data-dir {data_dir}`")
    return data_dir


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port, or of brackets
        return False


# Of commands that ask a running service.
Url = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="USAGE_SERVICE_URL",
        callback=_url,
        show_default=f"that of {PORT_FILE}, else {DEFAULT_URL}",
        help="where the service is",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="USAGE_SERVICE_TOKEN",
        callback=_token,
        show_default=str(TOKEN_FILE),
        help="a token of the service with the scope that is needed",
    ),
]

StackDir = Annotated[
    Path,
    typer.Option(
        "--data-dir", file_okay=False, callback=_running, help="that of `usage-service up`; its service is asked"
    ),
]

# Of commands that work on the database itself.
DatabaseUrl = Annotated[
    str | None, typer.Option("--database-url", envvar="DATABASE_URL", help="the database, with its owner's login")
]
DataDir = Annotated[
    Path,
    typer.Option("--data-dir", file_okay=False, help="that of `usage-service up`; its database is taken without a URL"),
]

# What is asked about.
Product = Annotated[str | None, typer.Option(help="such as fog; all, where none is named")]
Channel = Annotated[str | None, typer.Option(help="such as nightly; all, where none is named")]
Since = Annotated[str | None, typer.Option(metavar="TIME", help="a day, as 2026-11-23, or an instant in RFC 3339")]
Until = Annotated[
    str | None, typer.Option(metavar="TIME", help="a day, as 2026-11-23, or an instant in RFC 3339; itself excluded")
]


def asking(command: Callable[..., object]) -> Callable[..., object]:
    """Return a command that asks a service with the option --data-dir, which its URL and its token are taken from.

    Other commands are returned as they are.
    """
    given = signature(command, eval_str=True)
    asked = given.parameters.get("url")
    if asked is None or asked.annotation != Url or "data_dir" in given.parameters:
        return command

    @wraps(command)
    def without_data_dir(*arguments: object, data_dir: Path, **options: object) -> object:
        return command(*arguments, **options)

    option = Parameter("data_dir", Parameter.KEYWORD_ONLY, default=DEFAULT_DATA_DIR, annotation=StackDir)
    without_data_dir.__dict__["__signature__"] = given.replace(parameters=[*given.parameters.values(), option])
    return without_data_dir


def refuse_misplaced(context: typer.Context) -> None:
    """Raise BadParameter for an option before the name of a subcommand, which would not see it."""
    refuse_given(context, context.params, f"give it after {context.invoked_subcommand}")


def refuse_given(context: typer.Context, names: Iterable[str], mend: str) -> None:
    """Raise BadParameter for the first of some parameters that is on the command line, where nothing sees it."""
    for name in names:
        if _source(context, name) == "COMMANDLINE":
            option = next(one.opts[0] for one in context.command.params if one.name == name)
            raise typer.BadParameter(mend, param_hint=option)


def refuse_overwriting(path: Path, read: Iterable[Path | None], option: str) -> None:
    """Raise BadParameter for a file to write that is one of those that are read."""
    if any(is_same(path, one) for one in read if one is not None):
        raise typer.BadParameter(f"{path} is read, and would be written over; name another file", param_hint=option)


def require_suffix(path: Path, suffixes: tuple[str, ...], option: str) -> None:
    """Raise BadParameter for a file to write whose name says that it is something else than it will be."""
    if path.suffix.lower() not in suffixes and (path.is_file() or not path.exists()):
        raise typer.BadParameter(f"{path}: the name must end in {' or '.join(suffixes)}", param_hint=option)
