"""Visitors' pseudonyms: a keyed hash, so that nobody without the key can tell who a visitor is."""

import hmac
from uuid import UUID


class Pseudonyms:
    """Makes pseudonyms with one secret; the same raw id gives the same pseudonym."""

    def __init__(self, secret: str) -> None:
        self._key = secret.encode()

    def of(self, raw_id: str) -> UUID:
        """The first 128 bits of HMAC-SHA256 of the raw id (RFC 2104)."""
        return UUID(bytes=hmac.digest(self._key, raw_id.encode(), "sha256")[:16])
