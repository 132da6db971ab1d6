"""Data requests and label requests of GLAM: their queries, and the rows and labels that answer them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from usage_service.events import NO_NUL, Name, ProbeName
from usage_service.problems import field_error
from usage_service.queries import query
from usage_service.shared.postgres import Connection

LEGACY = "firefox"  # the product of a query that names none
PRODUCTS = (LEGACY, "fenix", "fog")
PRODUCTS_WITH_LABELS = ("fenix", "fog")
CHANNELS = ("nightly", "beta", "release")
NEEDED = {"aggregationLevel", "app_id", "ping_type", "probe", "product"}
NEEDED_OF_LEGACY = {"aggregationLevel", "channel", "probe"}
NEEDED_OF_LABELS = {"app_id", "probe", "product"}
SAME_NAMES = ("probe", "ping_type", "os", "versions", "metric_key")
MOST_SHOWN = 100  # characters of a wrong value
Channel = Literal["nightly", "beta", "release"]
System = Literal["*", "Windows", "Darwin", "Mac", "Linux", "Android"]
HISTOGRAMS = ("histogram", "percentiles", "non_norm_histogram", "non_norm_percentiles")


class UnusableQueryError(Exception):
    """A query is not valid; the message is GLAM's own."""


class DataQuery(msgspec.Struct, frozen=True):
    """Query of a data request; `versions` is how many versions there are before the latest."""

    product: Literal["firefox", "fenix", "fog"]
    channel: Channel
    probe: ProbeName
    aggregation_level: Literal["version", "build_id"]
    ping_type: Name | None = None
    os: System = "*"
    versions: Annotated[int, Meta(ge=1, le=2**31 - 1)] = 3
    metric_key: Annotated[str, Meta(max_length=200, pattern=NO_NUL)] = ""


class LabelsQuery(msgspec.Struct, frozen=True):
    """Query of a request for the labels of a probe."""

    product: Literal["fenix", "fog"]
    channel: Channel
    probe: ProbeName
    ping_type: Name | None = None
    os: System = "*"


Read = TypeVar("Read", DataQuery, LabelsQuery)


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
    return _typed(DataQuery, {
        "product": product,
        "channel": asked["channel" if product == LEGACY else "app_id"],
        "aggregation_level": asked["aggregationLevel"],
    } | {name: asked[name] for name in SAME_NAMES if name in asked})  # fmt: skip


def read_labels_query(asked: object) -> LabelsQuery:
    """Return the query of a decoded request for labels; raise UnusableQueryError when it is not valid."""
    if not isinstance(asked, dict):
        raise UnusableQueryError("Unexpected JSON body")
    missing = NEEDED_OF_LABELS - asked.keys()
    if missing:
        raise UnusableQueryError(f"Missing required query parameters: {', '.join(sorted(missing))}")
    if asked["product"] not in PRODUCTS_WITH_LABELS:
        raise UnusableQueryError(
            f"Unsupported product specified. We currently support only: {', '.join(PRODUCTS_WITH_LABELS)}"
        )
    given = {"product": asked["product"], "channel": asked["app_id"]}
    return _typed(LabelsQuery, given | {name: asked[name] for name in ("probe", "ping_type", "os") if name in asked})


def _typed(kind: type[Read], given: dict[str, object]) -> Read:
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        name = (field_error(error).pointer or "").removeprefix("/")
        shown = str(given.get(name))[:MOST_SHOWN]
        raise UnusableQueryError(f"Invalid {name.replace('_', ' ')}: {shown}") from None


async def data_rows(connection: Connection, asked: DataQuery) -> list[dict[str, Any]]:
    """Return the rows in GLAM's format, latest version and build first; `revision` is empty where no event tells it."""
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
    # The database has JSON texts, which are sent unchanged; GLAM has "" where there is none.
    texts = {name: msgspec.Raw((row[name] or '""').encode()) for name in HISTOGRAMS}
    return row | texts


async def find_labels(connection: Connection, asked: LabelsQuery) -> list[str]:
    """Return the distinct metric keys of a probe's rows, in their order."""
    asked_for = asked.product, asked.channel, asked.probe, asked.ping_type, asked.os
    return [row["metric_key"] for row in await connection.fetch(query("glam", "labels"), *asked_for)]
