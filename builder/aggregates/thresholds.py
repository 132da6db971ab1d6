"""The minimum numbers of clients that a build and a row need to be shown."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Minimum:
    """The numbers to be exceeded: the distinct clients of a build, and a row's total_users."""

    build_clients: int
    row_users: int


# The figures of GLAM's ETL (bigquery-etl, bigquery_etl/glam).
UPSTREAM: Mapping[tuple[str, str], Minimum] = MappingProxyType({
    ("fog", "nightly"): Minimum(50, 10),
    ("fog", "beta"): Minimum(1_500, 100),
    ("fog", "release"): Minimum(450_000, 100),
    ("fenix", "nightly"): Minimum(800, 10),
    ("fenix", "beta"): Minimum(2_000, 10),
    ("fenix", "release"): Minimum(90_000, 10),
})  # fmt: skip


@dataclass(frozen=True)
class Thresholds:
    """The minimum of each (product, channel), and the one for all others."""

    minimums: Mapping[tuple[str, str], Minimum] = field(default_factory=lambda: UPSTREAM)
    otherwise: Minimum = Minimum(100, 10)

    def of(self, product: str, channel: str) -> Minimum:
        """Return the minimum of a product's channel."""
        return self.minimums.get((product, channel), self.otherwise)

    @classmethod
    def of_settings(cls, minimums: Mapping[str, str]) -> "Thresholds":
        """Return upstream's thresholds with those of the settings in their place: "product/channel" to "clients/users".

        A minimum of "*" replaces all of upstream's. Raise ValueError for a text of another form.
        """
        known = {key: _minimum(text) for key, text in minimums.items()}
        everybody = known.pop("*", None)
        named = {_channel(key): minimum for key, minimum in known.items()}
        return cls(named, everybody) if everybody else cls({**UPSTREAM, **named})


def _minimum(text: str) -> Minimum:
    clients, _, users = text.partition("/")
    return Minimum(int(clients), int(users))


def _channel(text: str) -> tuple[str, str]:
    product, slash, channel = text.partition("/")
    if not (product and slash and channel):
        raise ValueError(f"{text} is no product/channel")
    return product, channel
