"""Funnel of visitors: how many searched, how many of those viewed a probe, and how many of those left for a tool."""

import pyarrow as pa

STEPS = ["probe_searched", "probe_viewed", "link_followed"]


class Funnel:
    """The number of steps that each visitor took, in the order of STEPS."""

    types = STEPS
    columns = ("type", "visitor")

    def __init__(self) -> None:
        self.reached: dict[str, int] = {}

    def apply(self, batch: pa.RecordBatch) -> None:
        """Count the events that are the next step of their visitor."""
        for kind, visitor in zip(*batch.to_pydict().values(), strict=True):
            if visitor and STEPS.index(kind) == self.reached.get(visitor, 0):
                self.reached[visitor] = STEPS.index(kind) + 1

    def result(self) -> list[dict[str, object]]:
        """Return a row for each step."""
        counts = [sum(reached > step for reached in self.reached.values()) for step in range(len(STEPS))]
        rows = zip(STEPS, counts, strict=True)
        return [{"step": step, "visitors": count, "share": count / max(counts[0], 1)} for step, count in rows]
