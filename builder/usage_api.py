"""What a builder asks a usage service: the hot list, and how often probes were viewed."""

from __future__ import annotations

from urllib.parse import urlencode

import msgspec
import urllib3

from builder.errors import TransientBuildError
from usage_service.shared.settings import SettingsError

WINDOW, MOST_PROBES = "28d", 1_000
TIMEOUT_SECONDS = 30.0


class Worth(msgspec.Struct, frozen=True):
    """What building a probe is worth: the requests that are expected of it on the day."""

    requests: float


class ListedProbe(msgspec.Struct, frozen=True):
    """A probe of an answer, as far as builders use it: with its score and worth if of the hot list, else with views."""

    probe: str
    views: int = 0
    score: float | None = None
    worth: Worth | None = None

    @property
    def requests(self) -> float | None:
        """Return the requests that are expected of it on the day."""
        return self.worth.requests if self.worth else self.score


class _Answer(msgspec.Struct, frozen=True):
    probes: list[ListedProbe]


def hot_list(url: str, token: str | None, product: str, budget: int | str) -> list[ListedProbe]:
    """Return the hot list of a product. Raise what `probe_views` raises."""
    return _get(url, token, "/v1/hotlist", product=product, budget=budget)


def probe_views(url: str, token: str | None, product: str) -> dict[str, int]:
    """Return the views of each probe in four weeks.

    Raise TransientBuildError when the service does not answer, or with an error, and SettingsError for no address.
    """
    answered = _get(url, token, "/v1/popularity", product=product, window=WINDOW, limit=MOST_PROBES)
    return {item.probe: item.views for item in answered}


def _get(url: str, token: str | None, path: str, **parameters: object) -> list[ListedProbe]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    address = f"{url.rstrip('/')}{path}?{urlencode(parameters)}"
    try:
        response = urllib3.request("GET", address, headers=headers, timeout=TIMEOUT_SECONDS, retries=False)
    except urllib3.exceptions.LocationValueError as error:
        raise SettingsError(f"--url: {url!r} is no address of a usage service: {error}") from None
    except urllib3.exceptions.HTTPError as error:
        raise TransientBuildError("unreachable", f"no usage service answers at {url}: {error}") from None
    if response.status != 200:
        raise TransientBuildError("refused", f"{address} was answered with {response.status}: {response.data[:300]!r}")
    return msgspec.json.decode(response.data, type=_Answer).probes
