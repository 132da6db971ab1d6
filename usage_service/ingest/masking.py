"""Masking of what the app reports of people: free text is stored without what may say who they are.

Of the address of a page the query, the fragment and the user info are dropped, but for parameters that are to be kept.
What looks like an e-mail address is masked in any text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import NamedTuple
from urllib.parse import unquote_plus

import msgspec

from usage_service.events import AnyEvent, AppData, ExtensionEvent

# No longer than the shortest text that is masked: limits on lengths hold for what is stored, too. Names have none.
MASK = "***"

# JSON in UTF-8 without any of these holds nothing to be masked; 0xEF begins the full-width and the small at sign.
_may_hold_any = re.compile(rb"[?@#%\xef]").search
_OTHER_AT = re.compile("%(?:25)*40|[\uff20\ufe6b]")  # percent-encoded, however often; full-width and small
_END = r"\s/?#&=<>(),;\"|\\"  # a text's part with an address in it ends at any of these
# An at sign between two characters that are no space, and the part that it is in, found in linear time.
_ADDRESS = re.compile(rf"(?:(?<![^{_END}@])[^{_END}@]++|(?<=[^\s@]))@++[^\s@][^{_END}]*+")


class Masked(NamedTuple):
    """The data of an event of which something was masked, and JSON Pointers to the fields where."""

    data: AppData | dict[str, object]
    pointers: tuple[str, ...]


class Masking:
    """Masks events; the parameters of addresses that are to be kept are given by name."""

    def __init__(self, kept_parameters: AbstractSet[str] = frozenset()) -> None:
        self._kept = kept_parameters

    def mask(self, event: AnyEvent | ExtensionEvent, encoded: bytes) -> Masked | None:
        """Mask an event of the app whose data are `encoded`, or return None where there is nothing to be masked."""
        if not _may_hold_any(encoded):  # as most events
            return None
        if isinstance(event, ExtensionEvent):
            data = _mask_object(event.data)
            return None if data == event.data else Masked(data, ("/data",))
        if not isinstance(event.data, AppData):
            return None
        changed = self._changed(event.data)
        if not changed:
            return None
        return Masked(msgspec.structs.replace(event.data, **changed), tuple(f"/data/{name}" for name in changed))

    def _changed(self, data: AppData) -> dict[str, str]:
        """Return the fields that are not to be stored as they are, with what is to be stored."""
        changed = {}
        for name in data.__struct_fields__:
            if isinstance(text := getattr(data, name), str):
                masked = self.mask_address(text) if name in data.addresses else mask_text(text)
                if masked != text:
                    changed[name] = masked
        return changed

    def mask_address(self, address: str) -> str:
        """Return the address of a page (a path, a host or a URL) without query, fragment and user info."""
        whole, _, _ = address.partition("#")
        place, _, query = whole.partition("?")
        scheme, slashes, rest = place.partition("//")
        if slashes:
            host, slash, path = rest.partition("/")
            place = scheme + slashes + _OTHER_AT.sub("@", host).rpartition("@")[2] + slash + path
        if query and self._kept:
            kept = "&".join(one for one in query.split("&") if unquote_plus(one.partition("=")[0]) in self._kept)
            place += f"?{kept}" if kept else ""
        return mask_text(place or ("/" if address else ""))


def mask_text(text: str, number: str = "") -> str:
    """Return the text with what looks like an e-mail address masked, and numbered where the mask has a number."""
    if text.isascii() and "@" not in text and "%" not in text:
        return text
    plain = _OTHER_AT.sub("@", text)
    masked = _ADDRESS.sub(lambda found: MASK[: len(found[0])] + number, plain)
    return text if masked == plain else masked


def mask_json(value: object) -> object:
    """Return a JSON value with all of its texts masked, names of fields too."""
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, dict):
        return _mask_object(value)
    return [mask_json(part) for part in value] if isinstance(value, list) else value


def _mask_object(given: dict[str, object]) -> dict[str, object]:
    names = _masked_names(given)
    return {names[name]: mask_json(part) for name, part in given.items()}


def _masked_names(given: Iterable[str]) -> dict[str, str]:
    """Return what the names of an object's fields are stored as: `***`, `***2` and so on, so that no value is lost.

    The numbers go by the order of the names, in whichever order they were sent.
    """
    names = {name: mask_text(name) for name in given}
    taken = {name for name, masked in names.items() if masked == name}
    numbers: Counter[str] = Counter()
    for name in sorted(names.keys() - taken):
        alike = names[name]
        while names[name] in taken:
            numbers[alike] += 1
            names[name] = mask_text(name, str(numbers[alike] + 1))
        taken.add(names[name])
    return names
