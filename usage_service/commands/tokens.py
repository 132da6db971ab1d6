"""`usage-service token`: who may do what over HTTP."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, TypeVar, get_args

import asyncpg
import msgspec
import typer

from usage_service.commands.tables import FormatOption, show
from usage_service.local.database import database_url
from usage_service.shared.errors import UserError
from usage_service.shared.logs import configure_logs
from usage_service.shared.postgres import UNAVAILABLE, Connection, connect
from usage_service.tokens import TokenScope, create_token, list_tokens, revoke_tokens

COLUMNS = ("token_id", "name", "scopes", "state", "created_at", "expires_at", "revoked_at")
NAME = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
SCOPES: tuple[TokenScope, ...] = get_args(TokenScope)
DEFAULT_DATA_DIR = Path("data")

Result = TypeVar("Result")
Url = Annotated[str | None, typer.Option("--database-url", envvar="DATABASE_URL", help="of the database's owner")]
DataDir = Annotated[Path, typer.Option(file_okay=False, help="of `usage-service up`, where no URL is given")]

token_app = typer.Typer(no_args_is_help=True, help="Create, list and revoke tokens, on the database itself.")


class TokenError(UserError):
    """A token cannot be made or revoked; the message says what to change."""


@token_app.command("create")
def create_command(
    name: Annotated[str, typer.Argument(help="whose it is, and the source of the events posted with it")],
    scopes: Annotated[
        list[str], typer.Option("--scope", metavar="|".join(SCOPES), help="what it opens; may be given several times")
    ],
    days: Annotated[int, typer.Option(min=1, max=3_660, help="until it expires")] = 365,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Create a token and print it, this once: only a hash of it is kept."""
    if not NAME.fullmatch(name):
        raise TokenError(f"{name} cannot be a name: small letters, digits, - _ and . after a letter, 63 at most")
    chosen = [_scope(text) for text in dict.fromkeys(",".join(scopes).split(","))]
    typer.echo(_on_database(url, data_dir, lambda owner: create_token(owner, name, chosen, timedelta(days=days))))


@token_app.command("list")
def list_command(form: FormatOption = None, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show whose tokens there are, what they open and until when; never a token."""
    tokens = _on_database(url, data_dir, list_tokens)
    show([msgspec.to_builtins(token) for token in tokens], COLUMNS, form)


@token_app.command("revoke")
def revoke_command(
    which: Annotated[str, typer.Argument(metavar="ID_OR_NAME", help="one token, or all of a name")],
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Revoke tokens: within seconds they open nothing any more."""
    number = _on_database(url, data_dir, lambda owner: revoke_tokens(owner, which))
    if not number:
        raise TokenError(f"there is no valid token {which}; `usage-service token list` shows all")
    typer.echo(f"revoked {number}")


def _scope(text: str) -> TokenScope:
    try:
        scope: TokenScope = msgspec.convert(text, TokenScope)
    except msgspec.ValidationError:
        raise TokenError(f"--scope {text}: there are {', '.join(SCOPES)}") from None
    return scope


def _on_database(url: str | None, data_dir: Path, work: Callable[[Connection], Awaitable[Result]]) -> Result:
    configure_logs(os.environ.get("LOG_LEVEL", "info"))
    found = database_url(url, data_dir)

    async def run() -> Result:
        connection = await connect(found, application="usage-service token")
        try:
            return await work(connection)
        finally:
            await connection.close()

    try:
        return asyncio.run(run())
    except (*UNAVAILABLE, asyncpg.PostgresError) as error:
        raise TokenError(f"the database does not do that: {str(error) or repr(error)}") from None
