"""Data requests of GLAM: their queries, and the rows that answer them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from usage_service.events import NO_NUL, Name, ProbeName
from usage_service.problems import field_error
from usage_service.queries import query
from usage_service.shared.postgres import Connection

LEGACY = "firefox"  # the product of a query that names none
PRODUCTS = (LEGACY, "fenix", "fog")
CHANNELS = ("nightly", "beta", "release")
NEEDED = {"aggregationLevel", "app_id", "ping_type", "probe", "product"}
NEEDED_OF_LEGACY = {"aggregationLevel", "channel", "probe"}
SAME_NAMES = ("probe", "ping_type", "os", "versions", "metric_key")
MOST_SHOWN = 100  # characters of a wrong value
HISTOGRAMS = ("histogram", "percentiles", "non_norm_histogram", "non_norm_percentiles")


class UnusableQueryError(Exception):
    """A query is not valid; the message is GLAM's own."""


class DataQuery(msgspec.Struct, frozen=True):
    """Query of a data request; `versions` is the number of versions, counted from the latest."""

    product: Literal["firefox", "fenix", "fog"]
    channel: Literal["nightly", "beta", "release"]
    probe: ProbeName
    aggregation_level: Literal["version", "build_id"]
    ping_type: Name | None = None
    os: Literal["*", "Windows", "Darwin", "Mac", "Linux", "Android"] = "*"
    versions: Annotated[int, Meta(ge=1, le=2**31)] = 3
    metric_key: Annotated[str, Meta(max_length=200, pattern=NO_NUL)] | None = None


def read_query(asked: object) -> DataQuery:
    """Return the query of a decoded request; raise UnusableQueryError when it is not valid."""
    if not isinstance(asked, dict):
        raise UnusableQueryError("Unexpected JSON body")
    product = asked.get("product", LEGACY)
    if product not in PRODUCTS:
        raise UnusableQueryError(f"Unsupported product specified. We currently support only: {', '.join(PRODUCTS)}")
    missing = (NEEDED_OF_LEGACY if product == LEGACY else NEEDED) - asked.keys()
    if missing:
        raise UnusableQueryError(f"Missing required query parameters: {', '.join(sorted(missing))}")
    if product == LEGACY and asked["channel"] not in CHANNELS:
        raise UnusableQueryError("Product not currently supported.")
    return _typed({
        "product": product,
        "channel": asked["channel" if product == LEGACY else "app_id"],
        "aggregation_level": asked["aggregationLevel"],
    } | {name: asked[name] for name in SAME_NAMES if name in asked})  # fmt: skip


def _typed(given: dict[str, object]) -> DataQuery:
    try:
        return msgspec.convert(given, DataQuery)
    except msgspec.ValidationError as error:
        name = (field_error(error).pointer or "").removeprefix("/")
        shown = str(given.get(name))[:MOST_SHOWN]
        raise UnusableQueryError(f"Invalid {name.replace('_', ' ')}: {shown}") from None


async def data_rows(connection: Connection, asked: DataQuery) -> list[dict[str, Any]]:
    """Return the rows in GLAM's format, latest version and build first; `revision` is not known here, and empty."""
    rows = await connection.fetch(
        query("glam", "data"),
        asked.product,
        asked.channel,
        asked.probe,
        asked.versions,
        asked.ping_type,
        asked.os,
        asked.aggregation_level == "version",
        asked.metric_key,
    )
    return [_row(dict(row)) for row in rows]


def _row(row: dict[str, Any]) -> dict[str, Any]:
    # The database has JSON texts, which are sent unchanged; GLAM has "" for empty ones.
    texts = {name: msgspec.Raw(b'""' if row[name] == "{}" else row[name].encode()) for name in HISTOGRAMS}
    return row | {"revision": ""} | texts
