"""Names that nothing is known of: a product or a channel that was misspelt gets an error with the nearest one."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from usage_service.shared.errors import UserError
from usage_service.shared.remote import RemoteError, ask

# Of a token that does not open this, whose own request says so, and of a service of before, which has no such answer.
UNTOLD = frozenset({401, 403, 404})


class UnknownNameError(UserError):
    """Raised where nothing is known of a product or channel; the message says which there are."""


def refuse_unknown(url: str, token: str | None, product: str | None, channel: str | None = None) -> None:
    """Raise UnknownNameError for a product, or a channel of it, that nothing is known of."""
    if product is None and channel is None:
        return
    try:
        known = {one["product"]: one["channels"] for one in ask(url, token, "/v1/products")["products"]}
    except RemoteError as error:
        if error.status in UNTOLD:
            return
        raise
    if not known:  # of a service without events no name is a mistake
        return
    if product is not None and product not in known:
        raise UnknownNameError(f"nothing is known of product {product}; {_hint(product, list(known))}")
    channels = known[product] if product is not None else sorted({name for names in known.values() for name in names})
    if channel is not None and channels and channel not in channels:
        of = f" of {product}" if product else ""
        raise UnknownNameError(f"nothing is known of channel {channel}{of}; {_hint(channel, channels)}")


def _hint(given: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(given, names, 1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
