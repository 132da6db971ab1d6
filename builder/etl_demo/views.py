"""Views by probe and the hot list, from a running usage service or made up."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from usage_service.shared.remote import RemoteError, ask

WINDOW, MOST_PROBES = "28d", 1_000
MADE_UP_SEED, MADE_UP_VIEWS = 20261124, 1_000


class Viewed(msgspec.Struct, frozen=True):
    """A probe and how often it was viewed; the items of the hot list have no views."""

    probe: str
    views: int = 0


@dataclass(frozen=True)
class ProbeViews:
    """Views by probe, the hot probes, and the source of both."""

    by_probe: dict[str, int]
    hot: list[str]
    source: str


def views_of_service(url: str, token: str | None, product: str, budget: int) -> ProbeViews:
    """Return the views of a usage service, from GET /v1/popularity and GET /v1/hotlist. Raise RemoteError."""
    viewed = _probes(url, ask(url, token, "/v1/popularity", product=product, window=WINDOW, limit=MOST_PROBES))
    hot = _probes(url, ask(url, token, "/v1/hotlist", product=product, budget=budget))
    return ProbeViews({item.probe: item.views for item in viewed}, [item.probe for item in hot], url)


def made_up_views(probes: Sequence[str], budget: int) -> ProbeViews:
    """Return views that follow Zipf's law, always the same for the same probes; the most viewed ones are hot."""
    ranked = random.Random(MADE_UP_SEED).sample(sorted(probes), len(probes))
    views = {probe: MADE_UP_VIEWS // rank for rank, probe in enumerate(ranked, 1)}
    return ProbeViews(views, ranked[:budget], "made up")


def _probes(url: str, answer: dict[str, object]) -> list[Viewed]:
    try:
        return msgspec.convert(answer.get("probes"), list[Viewed])
    except msgspec.ValidationError as error:
        raise RemoteError(f"{url} is not a usage service: {error}") from None
