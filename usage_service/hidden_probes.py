"""Hidden probes: patterns of names that are neither built nor listed. Views of them are recorded all the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from usage_service.probe_keys import ProbeKey
from usage_service.queries import query
from usage_service.shared.postgres import Connection

MOST_MASKS = 4
MOST_REMEMBERED = 100_000


class HiddenPattern(msgspec.Struct, frozen=True):
    """Pattern of names: `*` stands for any text, and a dot for an underscore. Without a product, of every product.

    `source` is who set it; `log_position` that of the event that did, 0 for what GLAM hides.
    """

    pattern: str
    product: str | None
    reason: str
    source: str
    log_position: int


class Hiding(NamedTuple):
    """Pattern that hides a probe, and the reason for it."""

    pattern: str
    reason: str


async def find_patterns(connection: Connection, product: str | None) -> list[HiddenPattern]:
    """Return the patterns that concern a product, or all, in the order of patterns."""
    return [HiddenPattern(**row) for row in await connection.fetch(query("hidden_probes", "patterns"), product)]


async def hidden_revision(connection: Connection) -> int:
    """Return a number that changes whenever a pattern is added or lifted."""
    revision: int = await connection.fetchval(query("hidden_probes", "revision"))
    return revision


async def find_hiding(connection: Connection, product: str, probe: str) -> Hiding | None:
    """Return the pattern that hides a probe, or None when none does."""
    row = await connection.fetchrow(query("hidden_probes", "hiding"), product, probe)
    return Hiding(*row) if row else None


async def set_hidden(
    connection: Connection, pattern: str, product: str | None, reason: str, source: str, *, hidden: bool
) -> int | None:
    """Hide what a pattern names, or show it again, as an event; return its position, or None when nothing changed."""
    asked = pattern, product or "", hidden, reason, source
    position: int | None = await connection.fetchval(query("hidden_probes", "set"), *asked)
    return position


class HiddenNames:
    """The answer for each probe that was asked about, remembered until a pattern changes."""

    def __init__(self) -> None:
        self._revision = -1
        self._hidden: dict[ProbeKey, bool] = {}
        # The latest, least recently asked for first.
        self._masks: list[tuple[Sequence[ProbeKey], npt.NDArray[np.bool_]]] = []

    async def mask(self, connection: Connection, probes: Sequence[ProbeKey]) -> npt.NDArray[np.bool_]:
        """Return, for each of the probes, whether it is hidden. Neither the sequence nor the answer is ever changed."""
        revision = await hidden_revision(connection)
        if revision != self._revision or len(self._hidden) > MOST_REMEMBERED:
            self._revision, self._hidden, self._masks = revision, {}, []
        asked_before = next((one for one in self._masks if one[0] is probes), None)
        if asked_before:
            self._keep(*asked_before)
            return asked_before[1]
        known = self._hidden  # another reader may begin anew meanwhile
        new = [key for key in probes if key not in known]
        if new:
            products, names = zip(*new, strict=True)
            places = await connection.fetch(query("hidden_probes", "among"), products, names)
            known.update(dict.fromkeys(new, False) | {new[place]: True for (place,) in places})
        mask = np.fromiter(map(known.__getitem__, probes), dtype=np.bool_, count=len(probes))
        if known is self._hidden:
            self._keep(probes, mask)
        return mask

    def _keep(self, probes: Sequence[ProbeKey], mask: npt.NDArray[np.bool_]) -> None:
        """Keep the mask of a sequence that may be asked about again: some are made anew each time, others stay."""
        others = [one for one in self._masks if one[0] is not probes]
        self._masks = [*others, (probes, mask)][-MOST_MASKS:]
