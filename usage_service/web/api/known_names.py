"""Names in requests for work, or of what is kept for ever: one that nothing is known of is refused."""

from __future__ import annotations

from usage_service.glam.data import CHANNELS
from usage_service.problems import FieldError, invalid
from usage_service.shared.known_names import find_unknown
from usage_service.shared.postgres import Connection
from usage_service.stats.catalogue import products_with_channels


async def refuse_unknown(
    connection: Connection, product: str | None, channel: str | None = None, *, of_address: bool = False
) -> None:
    """Raise a Problem (422) for a product, or a channel of it, that nothing is known of, with the nearest name.

    The names are fields of the body, or parameters of the address. GLAM's channels are known of every product: nobody
    may have viewed, or released, what is to be built there.
    """
    told = await products_with_channels(connection)
    known = {one.product: sorted({*one.channels, *CHANNELS}) if one.channels else [] for one in told}
    if unknown := find_unknown(known, product, channel):
        place = {"parameter": unknown.field} if of_address else {"pointer": f"/{unknown.field}"}
        raise invalid([FieldError(unknown.detail, **place)])
