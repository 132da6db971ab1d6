"""The part of a metric's definition that determines its buckets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from usage_service.shared.bigquery.errors import PermanentWorkError
from usage_service.shared.glean_buckets import exponential_buckets, linear_buckets

NEEDED = ("histogram_type", "range_min", "range_max", "bucket_count")
FEWEST_LINEAR_BUCKETS = 3
MAKERS: Mapping[str, Callable[[int, int, int], list[int]]] = MappingProxyType(
    {"exponential": exponential_buckets, "linear": linear_buckets}
)


class Definition(msgspec.Struct, frozen=True):
    """The range and number of a custom distribution's buckets; the labels of a metric that declares them all."""

    histogram_type: str | None = None
    range_min: int | None = None
    range_max: int | None = None
    bucket_count: int | None = None
    labels: tuple[str, ...] = ()

    def kind(self) -> str:
        """Return `exponential` or `linear`. Raise PermanentWorkError when the definition makes no buckets."""
        missing = [name for name in NEEDED if getattr(self, name) is None]
        if missing:
            raise _wrong(f"a custom distribution needs its definition: register the probe with {', '.join(missing)}")
        smallest, largest, count = self._range()
        if self.histogram_type not in MAKERS:
            raise _wrong(f"histogram_type is {self.histogram_type!r}; it must be one of {', '.join(MAKERS)}")
        if not 0 <= smallest < largest or count < 1:
            raise _wrong(f"no buckets from {smallest} to {largest}: range_min must be below range_max")
        if self.histogram_type == "linear" and count < FEWEST_LINEAR_BUCKETS:
            raise _wrong(f"bucket_count is {count}; linear buckets are at least {FEWEST_LINEAR_BUCKETS}")
        return str(self.histogram_type)

    def custom_buckets(self) -> list[int]:
        """Return the lower bounds of a custom distribution's buckets. Raise what `kind` raises."""
        return MAKERS[self.kind()](*self._range())

    def _range(self) -> tuple[int, int, int]:
        return self.range_min or 0, self.range_max or 0, self.bucket_count or 0


def _wrong(message: str) -> PermanentWorkError:
    return PermanentWorkError("invalidDefinition", message)
