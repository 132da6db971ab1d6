"""Settings: environment variables, declared in one place and checked at the start."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, field

from usage_service.shared.errors import UserError
from usage_service.shared.patterns import in_words, worded
from usage_service.shared.texts import read_texts

MOST_BYTES = 2**60  # that anything may be told to read: more than there are, and a bigint
Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
ORIGINS = worded(
    r"^https?://[^/,\s]+(,https?://[^/,\s]+)*(?!\n)$",
    "origins as browsers spell them, without a path, separated by commas, such as https://glam.example",
)
NAMES = worded(
    r"^[^,&=?#@%+\s]+(,[^,&=?#@%+\s]+)*(?!\n)$", "names of parameters, separated by commas, such as tab,view"
)
NO_LINK = "none"
PLACES = "{product}, {app}, {probe}, {channel} and {ping} stand for the probe's; none: no link"
Link = Annotated[
    str,
    Meta(
        pattern=worded(
            r"^(none|https?://([^\s{}]|\{(product|app|probe|channel|ping)\})+)(?!\n)$",
            "none, or an address that begins with http:// or https:// and has no spaces; "
            "of braces it may have {product}, {app}, {probe}, {channel} and {ping}",
        )
    ),
]
DatabaseUrl = Annotated[
    str, Meta(pattern=worded("^postgres(ql)?://", "an address such as postgresql://user:password@host:5432/database"))
]
DATASET = worded(
    r"^[a-z][a-z0-9-]{4,28}[a-z0-9]\.[a-z][a-z0-9_]{0,254}(?!\n)$",
    "a dataset of BigQuery in small letters with its project, as project.dataset",
)


class SettingsError(UserError):
    """A setting is missing, unknown or out of range; the message names it and what would be right."""


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of every program."""

    log_level: Annotated[
        str,
        Meta(
            pattern=worded("^(debug|info|warning|error)$", "debug, info, warning or error"),
            description="what is logged: debug, info, warning or error",
        ),
    ] = field(name="LOG_LEVEL", default="info")
    log_format: Annotated[
        Literal["auto", "json", "mozlog"], Meta(description="auto: readable on a terminal, else json; or Mozilla's")
    ] = field(name="LOG_FORMAT", default="auto")


class DatabaseSettings(LogSettings, frozen=True, kw_only=True):
    """Settings of both programs for reaching PostgreSQL."""

    database_url: Annotated[DatabaseUrl, Meta(description="where PostgreSQL is: postgresql://...")] = field(
        name="DATABASE_URL"
    )
    listen_database_url: Annotated[
        DatabaseUrl | None,
        Meta(description="a direct address of the same database, where DATABASE_URL leads to a transaction pooler"),
    ] = field(name="LISTEN_DATABASE_URL", default=None)

    @property
    def listen_url(self) -> str:
        """Return a direct address of the database: LISTEN does not work through a transaction pooler."""
        return self.listen_database_url or self.database_url


MirrorName = Annotated[
    Annotated[str, Meta(pattern=DATASET)],
    Meta(description="the dataset of BigQuery, project.dataset, that a mirror of the log is in; none without it"),
]
WarehouseUrl = Annotated[
    str,
    Meta(description="a warehouse for the mirror that speaks as BigQuery does, instead of it"),
]
Location = Annotated[str, Meta(description="where the mirror's dataset is")]
MirrorEvents = Annotated[int, Meta(ge=1, le=10_000_000, description="events that a load has at most")]
MirrorSeconds = Annotated[
    float, Meta(ge=0.05, le=86_400, description="between loads of fewer events; BigQuery takes 1,500 loads a day")
]
VerifySeconds = Annotated[
    float, Meta(ge=0, le=10**7, description="after which a load is verified; that reads the days that it has")
]
MIRROR, MIRROR_URL, MIRROR_LOCATION = (
    "USAGE_SERVICE_MIRROR",
    "USAGE_SERVICE_MIRROR_WAREHOUSE_URL",
    "USAGE_SERVICE_MIRROR_LOCATION",
)
MIRROR_EVENTS, MIRROR_SECONDS, MIRROR_VERIFY_SECONDS = (
    "USAGE_SERVICE_MIRROR_EVENTS",
    "USAGE_SERVICE_MIRROR_SECONDS",
    "USAGE_SERVICE_MIRROR_VERIFY_SECONDS",
)


class MirrorReaderSettings(LogSettings, frozen=True, kw_only=True):
    """Settings of the commands that read the log from a database: where what was dropped from it is."""

    mirror: MirrorName | None = field(name=MIRROR, default=None)
    mirror_url: WarehouseUrl | None = field(name=MIRROR_URL, default=None)
    mirror_location: Location = field(name=MIRROR_LOCATION, default="US")


class MirrorSettings(DatabaseSettings, frozen=True, kw_only=True):
    """Settings of `usage-service mirror`."""

    mirror: MirrorName = field(name=MIRROR)
    mirror_url: WarehouseUrl | None = field(name=MIRROR_URL, default=None)
    mirror_location: Location = field(name=MIRROR_LOCATION, default="US")
    mirror_events: MirrorEvents = field(name=MIRROR_EVENTS, default=1_000_000)
    mirror_seconds: MirrorSeconds = field(name=MIRROR_SECONDS, default=75)
    mirror_verify_seconds: VerifySeconds = field(name=MIRROR_VERIFY_SECONDS, default=3_600)


class ServerSettings(DatabaseSettings, frozen=True, kw_only=True):
    """Settings of the usage service."""

    host: Annotated[str, Meta(description="the address to listen on; any but loopback needs a token")] = field(
        name="USAGE_SERVICE_HOST", default="127.0.0.1"
    )
    port: Annotated[Port, Meta(description="the port to listen on; 0 takes a free one")] = field(
        name="USAGE_SERVICE_PORT", default=8080
    )
    token: Annotated[str | None, Meta(description="the operator's token, which opens every scope")] = field(
        name="USAGE_SERVICE_TOKEN", default=None
    )
    open_reads: Annotated[bool, Meta(description="whether reading needs no token")] = field(
        name="USAGE_SERVICE_OPEN_READS", default=False
    )
    usage_misses: Annotated[
        bool, Meta(description="whether GLAM's usage list has views that found nothing; GLAM's own has none")
    ] = field(name="USAGE_SERVICE_USAGE_MISSES", default=False)
    build_misses: Annotated[
        bool, Meta(description="whether a data request that finds nothing starts a build; `usage-service up` says yes")
    ] = field(name="USAGE_SERVICE_BUILD_MISSES", default=False)
    miss_builds_a_day: Annotated[
        int,
        Meta(
            ge=0, le=100_000, description="builds that a visitor's misses may start a day; all without one share them"
        ),
    ] = field(name="USAGE_SERVICE_MISS_BUILDS_A_DAY", default=50)
    miss_bytes_a_day: Annotated[
        int, Meta(ge=0, le=MOST_BYTES, description="bytes read by all builds of a day, after which misses start none")
    ] = field(name="USAGE_SERVICE_MISS_BYTES_A_DAY", default=5 * 10**12)
    tib_price: Annotated[
        float, Meta(ge=0, le=1_000_000, description="price of reading a TiB in the warehouse, in US dollars")
    ] = field(name="USAGE_SERVICE_TIB_PRICE", default=6.25)
    minute_price: Annotated[
        float, Meta(ge=0, le=1_000_000, description="price of a minute that a person waits for a build, in US dollars")
    ] = field(name="USAGE_SERVICE_MINUTE_PRICE", default=1.0)
    glam_link: Annotated[Link, Meta(description=f"where GLAM shows a probe; {PLACES}")] = field(
        name="USAGE_SERVICE_GLAM_LINK",
        default="https://glam.telemetry.mozilla.org/{product}/probe/{probe}/explore?app_id={channel}",
    )
    dictionary_link: Annotated[Link, Meta(description=f"where the Glean Dictionary has a probe; {PLACES}")] = field(
        name="USAGE_SERVICE_DICTIONARY_LINK",
        default="https://dictionary.telemetry.mozilla.org/apps/{app}/metrics/{probe}",
    )
    looker_link: Annotated[Link, Meta(description=f"where Looker explores a probe's ping; {PLACES}")] = field(
        name="USAGE_SERVICE_LOOKER_LINK", default="https://mozilla.cloud.looker.com/explore/{app}/{ping}"
    )
    searchfox_link: Annotated[Link, Meta(description=f"where a probe is found in the source; {PLACES}")] = field(
        name="USAGE_SERVICE_SEARCHFOX_LINK", default="https://searchfox.org/mozilla-central/search?q={probe}"
    )
    visitor_secret: Annotated[
        str,
        Meta(min_length=16, description="what pseudonyms are made with; keep it: with another, visitors are others"),
    ] = field(name="USAGE_SERVICE_VISITOR_SECRET")
    visitor_rotation_days: Annotated[
        int, Meta(ge=1, le=3_660, description="after so many days a visitor gets another pseudonym")
    ] = field(name="USAGE_SERVICE_VISITOR_ROTATION_DAYS", default=90)
    kept_parameters: Annotated[
        Annotated[str, Meta(pattern=NAMES)] | None,
        Meta(description="parameters of addresses of pages to record, by commas, such as tab,view; none without it"),
    ] = field(name="USAGE_SERVICE_KEPT_PARAMETERS", default=None)
    pool_size: Annotated[int, Meta(ge=2, le=200, description="connections to PostgreSQL at most")] = field(
        name="USAGE_SERVICE_POOL_SIZE", default=8
    )
    queue_events: Annotated[
        int,
        Meta(ge=1_000, le=1_000_000, description="events that may wait to be committed; more are answered with 429"),
    ] = field(name="USAGE_SERVICE_QUEUE_EVENTS", default=20_000)
    requests_a_second: Annotated[
        Annotated[float, Meta(gt=0, le=1_000_000)] | None,
        Meta(description="requests that a token may make a second, in bursts of ten seconds' worth; else any number"),
    ] = field(name="USAGE_SERVICE_REQUESTS_A_SECOND", default=None)
    cors_origins: Annotated[
        Annotated[str, Meta(pattern=ORIGINS)] | None,
        Meta(description="origins whose pages may ask, by commas, such as https://glam.example; none without it"),
    ] = field(name="USAGE_SERVICE_CORS_ORIGINS", default=None)
    trusted_proxies: Annotated[
        str | None,
        Meta(description="networks of proxies, by commas, whose X-Forwarded-For is believed; none without it"),
    ] = field(name="USAGE_SERVICE_TRUSTED_PROXIES", default=None)
    keepalive_seconds: Annotated[Seconds, Meta(description="for how long an idle connection is kept")] = field(
        name="USAGE_SERVICE_KEEPALIVE_SECONDS", default=75
    )
    metrics_host: Annotated[str, Meta(description="the address to serve metrics on, without a token")] = field(
        name="USAGE_SERVICE_METRICS_HOST", default="127.0.0.1"
    )
    metrics_port: Annotated[
        Port, Meta(description="a port of its own for metrics, which needs no token; 0: /metrics of the API only")
    ] = field(name="USAGE_SERVICE_METRICS_PORT", default=0)
    mirror: MirrorName | None = field(name=MIRROR, default=None)
    mirror_url: WarehouseUrl | None = field(name=MIRROR_URL, default=None)
    mirror_location: Location = field(name=MIRROR_LOCATION, default="US")
    mirrors: Annotated[
        bool,
        Meta(description="whether this server mirrors the log, in place of `usage-service mirror`"),
    ] = field(name="USAGE_SERVICE_MIRROR_HERE", default=False)
    mirror_events: MirrorEvents = field(name=MIRROR_EVENTS, default=1_000_000)
    mirror_seconds: MirrorSeconds = field(name=MIRROR_SECONDS, default=75)
    mirror_verify_seconds: VerifySeconds = field(name=MIRROR_VERIFY_SECONDS, default=3_600)
    drain_seconds: Annotated[Seconds, Meta(description="for how long a stopping server finishes what is under way")] = (
        field(name="USAGE_SERVICE_DRAIN_SECONDS", default=10)
    )

    @property
    def kept_names(self) -> frozenset[str]:
        """Return the names of the parameters that are kept."""
        return frozenset(self.kept_parameters.split(",")) if self.kept_parameters else frozenset()


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the commands that ask a running service."""

    url: Annotated[str, Meta(description="where the service is")] = field(
        name="USAGE_SERVICE_URL", default="http://127.0.0.1:8080"
    )
    token: Annotated[str | None, Meta(description="a token of the scope that is needed")] = field(
        name="USAGE_SERVICE_TOKEN", default=None
    )


class UpSettings(LogSettings, frozen=True, kw_only=True):
    """Settings of `usage-service up`: what replaces its embedded services."""

    database_url: Annotated[
        DatabaseUrl | None, Meta(description="a PostgreSQL to take instead of the embedded one")
    ] = field(name="DATABASE_URL", default=None)
    project: Annotated[
        str | None, Meta(description="a project of BigQuery to take instead of the embedded warehouse")
    ] = field(name="GOOGLE_CLOUD_PROJECT", default=None)
    open_reads: Annotated[bool, Meta(description="whether reading needs no token")] = field(
        name="USAGE_SERVICE_OPEN_READS", default=False
    )
    build_misses: Annotated[
        bool | None, Meta(description="whether misses start builds; without it, unless reading needs no token")
    ] = field(name="USAGE_SERVICE_BUILD_MISSES", default=None)

    @property
    def builds_misses(self) -> bool:
        """Return whether a data request that finds nothing starts a build."""
        return not self.open_reads if self.build_misses is None else self.build_misses


# Where `usage-service up` keeps its token and, while it runs, the port of its server, unless told otherwise.
TOKEN_FILE, PORT_FILE = Path("data/token"), Path("data/port")
Kind = TypeVar("Kind", bound=msgspec.Struct)


def kept_token(file: Path = TOKEN_FILE) -> str | None:
    """Return the token that `usage-service up` keeps in a file, if any."""
    return file.read_text("utf-8").strip() if file.exists() else None


def kept_url(file: Path = PORT_FILE) -> str | None:
    """Return the URL of the server of `usage-service up` that runs here, whose port is in a file, if one does."""
    try:
        return f"http://127.0.0.1:{int(file.read_text('utf-8'))}"
    except (OSError, ValueError):
        return None


def load_settings(kind: type[Kind], environ: Mapping[str, str] = os.environ) -> Kind:
    """Read the settings `kind` from the environment. Raise SettingsError for one that is missing or out of range."""
    known = {one.encode_name for one in msgspec.structs.fields(kind)}
    given = {name: environ[name] for name in known if environ.get(name)}
    try:
        return read_texts(given, kind)
    except msgspec.ValidationError as error:
        what, _, where = in_words(str(error)).partition(" - at ")
        name = where.strip("`").removeprefix("$.")
        raise SettingsError(
            f"{name}: {what}" if name else what.replace("Object missing required field", "set")
        ) from None


def check_names(environ: Mapping[str, str], prefix: str, *kinds: type[msgspec.Struct]) -> None:
    """Raise SettingsError for a variable that begins like a setting but is none: a misspelling."""
    known = {one.encode_name for kind in kinds for one in msgspec.structs.fields(kind)}
    for name in environ:
        if name.startswith(prefix) and name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
            raise SettingsError(f"{name} is not a setting; {hint}")
