"""Settings: environment variables, declared once, checked at start."""

import difflib
import os
from collections.abc import Mapping
from typing import Annotated, TypeVar

import msgspec

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class SettingsError(Exception):
    """A setting is missing, unknown or out of range; the message names it and what would be right."""


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What both programs need to reach PostgreSQL and to log."""

    database_url: str = msgspec.field(name="DATABASE_URL")
    listen_database_url: str | None = msgspec.field(name="LISTEN_DATABASE_URL", default=None)
    log_level: Annotated[str, msgspec.Meta(pattern="^(debug|info|warning|error)$")] = msgspec.field(
        name="LOG_LEVEL", default="info"
    )

    @property
    def listen_url(self) -> str:
        """A direct address of the database: LISTEN does not work through a transaction pooler."""
        return self.listen_database_url or self.database_url


class ServerSettings(DatabaseSettings, frozen=True, kw_only=True):
    """The usage service's own."""

    host: str = msgspec.field(name="USAGE_SERVICE_HOST", default="127.0.0.1")
    port: Port = msgspec.field(name="USAGE_SERVICE_PORT", default=8080)
    token: str | None = msgspec.field(name="USAGE_SERVICE_TOKEN", default=None)
    open_reads: bool = msgspec.field(name="USAGE_SERVICE_OPEN_READS", default=False)
    visitor_secret: Annotated[str, msgspec.Meta(min_length=16)] = msgspec.field(name="USAGE_SERVICE_VISITOR_SECRET")
    pool_size: Annotated[int, msgspec.Meta(ge=2, le=200)] = msgspec.field(name="USAGE_SERVICE_POOL_SIZE", default=8)
    queue_events: Annotated[int, msgspec.Meta(ge=1_000, le=1_000_000)] = msgspec.field(
        name="USAGE_SERVICE_QUEUE_EVENTS", default=20_000
    )
    drain_seconds: Seconds = msgspec.field(name="USAGE_SERVICE_DRAIN_SECONDS", default=10)


Kind = TypeVar("Kind", bound=msgspec.Struct)


def load_settings(kind: type[Kind], environ: Mapping[str, str] = os.environ, prefix: str = "USAGE_SERVICE_") -> Kind:
    """Reads `kind` from the environment; raises SettingsError for what is missing, misspelt or out of range."""
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    for name in environ:
        if name.startswith(prefix) and name not in known | CLIENT_SETTINGS:
            raise SettingsError(f"{name} is not a setting{_nearest(name, known)}")
    try:
        return msgspec.convert(
            {name: environ[name] for name in known if environ.get(name)}, kind, strict=False, str_keys=True
        )
    except msgspec.ValidationError as error:
        raise SettingsError(
            f"setting refused: {error}".replace("$.", "").replace("Object missing", "missing")
        ) from None


CLIENT_SETTINGS = {
    "USAGE_SERVICE_URL",
    "USAGE_SERVICE_TOKEN",
}  # of the command-line clients, beside a server's own


def _nearest(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(known))}"
