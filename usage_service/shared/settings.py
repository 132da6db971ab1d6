"""Settings: environment variables, declared once, checked at start."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
ORIGINS = r"^https?://[^/,\s]+(,https?://[^/,\s]+)*(?!\n)$"  # separated by commas, each as browsers spell it
DatabaseUrl = Annotated[str, msgspec.Meta(pattern="^postgres(ql)?://")]


class SettingsError(Exception):
    """A setting is missing, unknown or out of range; the message names it and what would be right."""


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every program needs."""

    log_level: Annotated[str, msgspec.Meta(pattern="^(debug|info|warning|error)$")] = msgspec.field(
        name="LOG_LEVEL", default="info"
    )
    log_format: Literal["auto", "json", "mozlog"] = msgspec.field(name="LOG_FORMAT", default="auto")


class DatabaseSettings(LogSettings, frozen=True, kw_only=True):
    """What both programs need to reach PostgreSQL."""

    database_url: DatabaseUrl = msgspec.field(name="DATABASE_URL")
    listen_database_url: DatabaseUrl | None = msgspec.field(name="LISTEN_DATABASE_URL", default=None)

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
    visitor_rotation_days: Annotated[int, msgspec.Meta(ge=1, le=3_660)] = msgspec.field(
        name="USAGE_SERVICE_VISITOR_ROTATION_DAYS", default=90
    )
    pool_size: Annotated[int, msgspec.Meta(ge=2, le=200)] = msgspec.field(name="USAGE_SERVICE_POOL_SIZE", default=8)
    queue_events: Annotated[int, msgspec.Meta(ge=1_000, le=1_000_000)] = msgspec.field(
        name="USAGE_SERVICE_QUEUE_EVENTS", default=20_000
    )
    requests_a_second: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] | None = msgspec.field(
        name="USAGE_SERVICE_REQUESTS_A_SECOND", default=None
    )
    cors_origins: Annotated[str, msgspec.Meta(pattern=ORIGINS)] | None = msgspec.field(
        name="USAGE_SERVICE_CORS_ORIGINS", default=None
    )
    keepalive_seconds: Seconds = msgspec.field(name="USAGE_SERVICE_KEEPALIVE_SECONDS", default=75)
    drain_seconds: Seconds = msgspec.field(name="USAGE_SERVICE_DRAIN_SECONDS", default=10)


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the command-line clients find a running service."""

    url: str = msgspec.field(name="USAGE_SERVICE_URL", default="http://127.0.0.1:8080")
    token: str | None = msgspec.field(name="USAGE_SERVICE_TOKEN", default=None)


class UpSettings(LogSettings, frozen=True, kw_only=True):
    """What replaces the embedded parts of `usage-service up`."""

    database_url: DatabaseUrl | None = msgspec.field(name="DATABASE_URL", default=None)
    project: str | None = msgspec.field(name="GOOGLE_CLOUD_PROJECT", default=None)


TOKEN_FILE = Path("data/token")  # where `usage-service up` keeps it, unless told otherwise
Kind = TypeVar("Kind", bound=msgspec.Struct)


def kept_token() -> str | None:
    """The token that `usage-service up` keeps in this folder, if any."""
    return TOKEN_FILE.read_text("utf-8").strip() if TOKEN_FILE.exists() else None


def load_settings(kind: type[Kind], environ: Mapping[str, str] = os.environ) -> Kind:
    """Reads `kind` from the environment; raises SettingsError for what is missing or out of range."""
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    given = {name: environ[name] for name in known if environ.get(name)}
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        name = where.strip("`").removeprefix("$.")
        raise SettingsError(
            f"{name}: {what}" if name else what.replace("Object missing required field", "set")
        ) from None


def check_names(environ: Mapping[str, str], prefix: str, *kinds: type[msgspec.Struct]) -> None:
    """Raises SettingsError for a variable that begins like a setting but is none: a misspelling."""
    known = {field.encode_name for kind in kinds for field in msgspec.structs.fields(kind)}
    for name in environ:
        if name.startswith(prefix) and name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
            raise SettingsError(f"{name} is not a setting; {hint}")
