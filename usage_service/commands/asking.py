"""Questions to a running service whose empty answer may be that of a misspelt name."""

from __future__ import annotations

from typing import Any

from usage_service.shared.remote import ask
from usage_service.shared.unknown_names import UnknownNameError, refuse_unknown

MOST_LISTED = 100


def ask_rows(url: str, token: str | None, path: str, rows: str, **parameters: object) -> dict[str, Any]:
    """Return the answer to GET of a path; raise RemoteError, or UnknownNameError where it has no `rows` for that."""
    answer = ask(url, token, path, **parameters)
    named = {name: str(value) for name in ("product", "channel") if (value := parameters.get(name)) is not None}
    if not answer[rows] or "channel" in named:  # what nobody views on a channel may have rows of its own
        refuse_unknown(url, token, named.get("product"), named.get("channel"))
    return answer


def refuse_unknown_probe(url: str, token: str | None, product: str, probe: str) -> None:
    """Raise UnknownNameError for a probe that the catalogue does not list."""
    refuse_unknown(url, token, product)
    listed = ask(url, token, "/v1/probes", product=product, q=probe, limit=MOST_LISTED)["probes"]
    names = [one["probe"] for one in listed]
    if probe not in names:
        hint = f"did you mean {names[0]}?" if names else f"`usage-service popular --product {product}` lists probes"
        raise UnknownNameError(f"the catalogue lists no probe {probe} of {product}; {hint}")
