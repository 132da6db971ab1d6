"""Probes that a list of the least viewed may name: those of the catalogue beside all that were ever viewed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from usage_service.probe_keys import Ints, ProbeKey
from usage_service.projections.state import Revision, read_states
from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.stats.view_columns import ColumnIndex

MOST_KEPT = 4  # a product each


class Listing(NamedTuple):
    """All probes in the order of names, whether each is to be listed unviewed, and where those of the columns are."""

    probes: Sequence[ProbeKey]
    is_listable: npt.NDArray[np.bool_]
    places: Ints


class _Kept(NamedTuple):
    """Listing of a product, made of one state of the catalogue and some columns."""

    product: str | None
    revision: Revision
    columns: ColumnIndex
    listing: Listing


class Listings:
    """Listings made of the latest states of the catalogue: to sort thousands of names takes longer than the answer."""

    def __init__(self) -> None:
        self._kept: list[_Kept] = []  # least recently asked for first

    async def read(self, connection: Connection, columns: ColumnIndex, product: str | None) -> Listing:
        """Return the listing of a product, or of all, as the connection's snapshot has the catalogue."""
        [revision] = (await read_states(connection, "catalogue")).revisions
        asked = product, revision
        kept = next((one for one in self._kept if one[:2] == asked and one.columns is columns), None)
        if kept is None:
            rows = await connection.fetch(query("popularity", "listable"), product)
            kept = _Kept(*asked, columns, listing_of(columns, [ProbeKey(*row) for row in rows]))
        self._kept = [*(one for one in self._kept if one is not kept), kept][-MOST_KEPT:]
        return kept.listing


def listing_of(columns: ColumnIndex, listable: Sequence[ProbeKey]) -> Listing:
    """Return the listing of the probes of columns and those that are to be listed unviewed."""
    probes = sorted({*columns.probes, *listable})
    place_of = {key: place for place, key in enumerate(probes)}
    is_listable = np.zeros(len(probes), dtype=np.bool_)
    is_listable[[place_of[key] for key in listable]] = True
    return Listing(probes, is_listable, np.fromiter(map(place_of.__getitem__, columns.probes), np.int64))
