"""How many who searched went on to view a probe, and how many of those left for another tool."""

import pyarrow as pa

STEPS = ["probe_searched", "probe_viewed", "link_followed"]


class Funnel:
    """How many steps each visitor took, in their order."""

    types = STEPS
    columns = ("type", "visitor")

    def __init__(self) -> None:
        self.reached: dict[str, int] = {}

    def apply(self, batch: pa.RecordBatch) -> None:
        """Moves on the visitors whose next step it is."""
        for kind, visitor in zip(*batch.to_pydict().values(), strict=True):
            if visitor and STEPS.index(kind) == self.reached.get(visitor, 0):
                self.reached[visitor] = STEPS.index(kind) + 1

    def result(self) -> list[dict[str, object]]:
        """A row a step."""
        counts = [sum(reached > step for reached in self.reached.values()) for step in range(len(STEPS))]
        rows = zip(STEPS, counts, strict=True)
        return [{"step": step, "visitors": count, "share": count / max(counts[0], 1)} for step, count in rows]
