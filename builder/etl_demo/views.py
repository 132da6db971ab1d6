"""Views by probe and the hot list, from a running usage service or made up."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from builder.usage_api import hot_list, probe_views

MADE_UP_SEED, MADE_UP_VIEWS = 20261124, 1_000


@dataclass(frozen=True)
class ProbeViews:
    """Views by probe, the hot probes, and the source of both."""

    by_probe: dict[str, int]
    hot: list[str]
    source: str


def views_of_service(url: str, token: str | None, product: str, budget: int) -> ProbeViews:
    """Return the views of a usage service, from GET /v1/popularity and GET /v1/hotlist.

    Raise TransientBuildError when the service does not answer, or with an error.
    """
    hot = hot_list(url, token, product, budget)
    return ProbeViews(probe_views(url, token, product), [item.probe for item in hot], url)


def made_up_views(probes: Sequence[str], budget: int) -> ProbeViews:
    """Return views that follow Zipf's law, always the same for the same probes; the most viewed ones are hot."""
    ranked = random.Random(MADE_UP_SEED).sample(sorted(probes), len(probes))
    views = {probe: MADE_UP_VIEWS // rank for rank, probe in enumerate(ranked, 1)}
    return ProbeViews(views, ranked[:budget], "made up")
