"""How many clients a build and a row need to be shown."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Minimum:
    """Both are to be exceeded: the distinct clients of a build, and a row's total_users."""

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
    """The minimum of each (product, channel), and of those that have none."""

    minimums: Mapping[tuple[str, str], Minimum] = field(default_factory=lambda: UPSTREAM)
    otherwise: Minimum = Minimum(100, 10)

    def of(self, product: str, channel: str) -> Minimum:
        """The minimum of a product's channel."""
        return self.minimums.get((product, channel), self.otherwise)

    def scaled(self, factor: float) -> "Thresholds":
        """The same for a warehouse that holds only this share of the clients."""
        return Thresholds(
            {key: _scaled(minimum, factor) for key, minimum in self.minimums.items()},
            _scaled(self.otherwise, factor),
        )


def _scaled(minimum: Minimum, factor: float) -> Minimum:
    return Minimum(round(minimum.build_clients * factor), round(minimum.row_users * factor))
