"""What users ask for: views by probe and the hot list, from a running usage service or made up."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import msgspec
import urllib3

from builder.errors import TransientBuildError

WINDOW, MOST_PROBES = "28d", 1_000
TIMEOUT_SECONDS = 30.0
MADE_UP_SEED, MADE_UP_VIEWS = 20261124, 1_000


class Viewed(msgspec.Struct, frozen=True):
    """A probe and how often it was looked at; the hot list's items have no views."""

    probe: str
    views: int = 0


class Page(msgspec.Struct, frozen=True):
    """The service's answer, as far as it is used."""

    probes: list[Viewed]


@dataclass(frozen=True)
class Demand:
    """Views by probe, the probes that the ETL should build, and where both are from."""

    views: dict[str, int]
    hot: list[str]
    source: str


def demand_of_service(url: str, token: str | None, product: str, budget: int) -> Demand:
    """From GET /v1/popularity and GET /v1/hotlist. Raises TransientBuildError where they do not answer."""
    viewed = _get(url, token, "/v1/popularity", product=product, window=WINDOW, limit=MOST_PROBES)
    hot = _get(url, token, "/v1/hotlist", product=product, budget=budget)
    return Demand({item.probe: item.views for item in viewed}, [item.probe for item in hot], url)


def made_up_demand(probes: Sequence[str], budget: int) -> Demand:
    """Views that fall off as in Zipf's law, always the same for the same probes; the most viewed are hot."""
    ranked = random.Random(MADE_UP_SEED).sample(sorted(probes), len(probes))
    return Demand({probe: MADE_UP_VIEWS // rank for rank, probe in enumerate(ranked, 1)}, ranked[:budget], "made up")


def _get(url: str, token: str | None, path: str, **parameters: object) -> list[Viewed]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    address = f"{url.rstrip('/')}{path}?{urlencode(parameters)}"
    try:
        response = urllib3.request("GET", address, headers=headers, timeout=TIMEOUT_SECONDS, retries=False)
    except urllib3.exceptions.HTTPError as error:
        raise TransientBuildError("unreachable", f"no usage service answers at {url}: {error}") from None
    if response.status != 200:
        raise TransientBuildError("refused", f"{address} was answered with {response.status}: {response.data[:300]!r}")
    return msgspec.json.decode(response.data, type=Page).probes
