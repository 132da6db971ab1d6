"""Questions about names that were misspelt: a command gets an error with the nearest one, and no empty answer."""

from __future__ import annotations

from usage_service.shared.errors import UserError
from usage_service.shared.known_names import find_unknown
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
    if unknown := find_unknown(known, product, channel):
        raise UnknownNameError(unknown.detail)
