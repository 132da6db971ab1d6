"""A probe of the sample pings: its type, its definition, and around which value its pings lie."""

from __future__ import annotations

from dataclasses import dataclass

from usage_service.shared.glean_buckets import exponential_buckets, functional_buckets, linear_buckets

BOUNDS = {"timing": functional_buckets(2, 8, 2**36), "memory": functional_buckets(2, 16, 2**36)}
BOTH = ("fog", "fenix")


@dataclass(frozen=True)
class Range:
    """The buckets that a custom distribution is defined with."""

    histogram_type: str
    range_min: int
    range_max: int
    bucket_count: int

    def buckets(self) -> list[int]:
        """Their lower bounds."""
        make = exponential_buckets if self.histogram_type == "exponential" else linear_buckets
        return make(self.range_min, self.range_max, self.bucket_count)


@dataclass(frozen=True)
class Probe:
    """A probe: how often a ping carries it, and around which value, by system and by build.

    `centre` and `spread` are buckets of a distribution, else the value itself. `windows` and `mac` move the centre
    on these systems; `regression` moves it from the 16th build to the 23rd, where it was fixed. A `rare` probe is
    sent by six clients only. `declared` says whether the labels are part of the definition.
    """

    name: str
    type: str
    centre: float = 1
    spread: float = 1
    presence: float = 0.6
    windows: float = 0
    mac: float = 0
    regression: float = 0
    labels: tuple[str, ...] = ()
    inner_labels: tuple[str, ...] = ()
    declared: bool = True
    range: Range | None = None
    rare: bool = False
    products: tuple[str, ...] = BOTH
    pings: tuple[str, ...] = ("metrics",)

    def buckets(self) -> list[int]:
        """The lower bounds of a distribution's buckets."""
        return self.range.buckets() if self.range else BOUNDS[self.type.split("_")[-2]]

    def definition(self) -> dict[str, object]:
        """What its registration says beside its type and ping: the range, and the labels that it declares."""
        shown = self.range
        of_range: dict[str, object] = {} if shown is None else {**vars(shown)}
        return of_range | ({"labels": list(self.labels)} if self.labels and self.declared else {})
