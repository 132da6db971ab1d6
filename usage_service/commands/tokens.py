"""`usage-service token`: the tokens of callers and their scopes."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import partial
from typing import Annotated, get_args

import msgspec
import typer

from usage_service.commands.database import Database
from usage_service.shared.errors import UserError
from usage_service.shared.options import DEFAULT_DATA_DIR, DatabaseUrl, DataDir
from usage_service.shared.tables import FormatOption, show, tell
from usage_service.tokens import FEED, TokenScope, create_token, list_tokens, revoke_tokens

COLUMNS = ("token_id", "name", "scopes", "state", "created_at", "expires_at", "revoked_at")
NAME = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
SCOPES: tuple[TokenScope, ...] = get_args(TokenScope)

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
    url: DatabaseUrl = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Create a token and print it, this once: only a hash of it is kept."""
    if not NAME.fullmatch(name):
        raise TokenError(f"{name} cannot be a name: small letters, digits, - _ and . after a letter, 63 at most")
    chosen = [_scope(text) for text in dict.fromkeys(",".join(scopes).split(","))]
    if FEED in chosen and chosen != [FEED]:
        raise TokenError("a token of scope feed opens nothing else: it is in an address; make two")
    make = partial(create_token, name=name, scopes=chosen, lifetime=timedelta(days=days))
    typer.echo(Database(url, data_dir).run_as_owner(make))


@token_app.command("list")
def list_command(form: FormatOption = None, url: DatabaseUrl = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show the tokens: whose each is, its scopes and its end; never the token itself."""
    tokens = Database(url, data_dir).run_as_owner(list_tokens)
    show([msgspec.to_builtins(token) for token in tokens], COLUMNS, form)


@token_app.command("revoke")
def revoke_command(
    which: Annotated[str, typer.Argument(metavar="ID_OR_NAME", help="one token, or all of a name")],
    url: DatabaseUrl = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Revoke tokens: within seconds they open nothing any more."""
    number = Database(url, data_dir).run_as_owner(lambda owner: revoke_tokens(owner, which))
    if not number:
        raise TokenError(f"there is no valid token {which}; `usage-service token list` shows all")
    tell(f"revoked {number}")


def _scope(text: str) -> TokenScope:
    try:
        scope: TokenScope = msgspec.convert(text, TokenScope)
    except msgspec.ValidationError:
        raise TokenError(f"--scope {text}: there are {', '.join(SCOPES)}") from None
    return scope
