"""Products and channels that something is known of: another name is a mistake, and the nearest one was meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple


class Unknown(NamedTuple):
    """Name that nothing is known of, as the field that has it, and what to say of it."""

    field: Literal["product", "channel"]
    detail: str


def find_unknown(known: Mapping[str, Collection[str]], product: str | None, channel: str | None) -> Unknown | None:
    """Return the first of the names that nothing is known of; `known` has the channels of each product.

    Where no product is known no name is a mistake, and where no channel of the product is, none of a channel.
    """
    if product is not None and known and product not in known:
        return Unknown("product", f"nothing is known of product {product}; {hint(product, known)}")
    of_all = sorted({name for names in known.values() for name in names})
    channels = of_all if product is None else known.get(product, ())
    if channel is not None and channels and channel not in channels:
        of = f" of {product}" if product else ""
        return Unknown("channel", f"nothing is known of channel {channel}{of}; {hint(channel, channels)}")
    return None


def hint(given: str, names: Collection[str]) -> str:
    """Return which of the names was meant, or what there is to choose from."""
    near = difflib.get_close_matches(given, names, 1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
