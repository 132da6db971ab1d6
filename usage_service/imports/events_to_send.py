"""Events as they are sent: judged as the service judges them, and known again by their content.

The id of an event is made from its content, the host of the file, and how many equal ones are before it in the file.
So the same file gives the same ids under any name, in any order of its lines, and with its times in any zone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from usage_service.event_decoding import UnusableEventError, check_instant, decode_event, encode_data, type_of
from usage_service.events import AnyEvent, ExtensionEvent
from usage_service.imports.lines import JsonObject
from usage_service.imports.refusals import HALF_A_CHARACTER, Refusal, broken_field, refusal_of

BEFORE_ID = b'{"event_id":"'
NO_ID = "00000000-0000-8000-8000-000000000000"
AFTER_ID = len(BEFORE_ID) + len(NO_ID)
LAST_SECOND = (1 << 32) - 1
UNSENDABLE = (RecursionError, OverflowError, TypeError, ValueError)


class EventToSend(NamedTuple):
    """An event as JSON, and the key by which equal ones are counted; None where the file itself gives an id."""

    body: bytes
    type: str
    key: bytes | None = None
    is_timeless: bool = False  # its time is that of the import, and not part of what it is

    def numbered(self, key: bytes, repeat: int) -> EventToSend:
        """Return the event with its id, as the how-many-eth equal one of its file it is."""
        digits = hashlib.blake2b(key + b"%d" % repeat, digest_size=16).hexdigest()
        # A UUID of version 8 (RFC 9562): what is in it is up to us.
        made = f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"
        return EventToSend(BEFORE_ID + made.encode() + self.body[AFTER_ID:], self.type, key, self.is_timeless)


class RefusedEventError(Exception):
    """An event that the service would refuse, with the reason."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class Preparation:
    """Prepares the events of the lines of one host; those without a time are of the time `as_of`."""

    def __init__(self, host: str, as_of: datetime) -> None:
        self._host = hashlib.blake2b(host.encode(), digest_size=16).digest()
        self._as_of = as_of.isoformat()
        self._now = datetime.now(UTC)

    def prepare(self, events: Sequence[JsonObject]) -> list[EventToSend]:
        """Return the events of a line, ready but for their ids. Raise RefusedEventError for the first that is wrong.

        An event is known by what it is and by the first event of its line: rules that tell more of a line the next
        time record no page view anew.
        """
        prepared: list[EventToSend] = []
        first = b""
        for event in events:
            body, decoded = self._decoded(event)
            is_timeless = "occurred_at" not in event
            instant = None if is_timeless else self._instant(decoded.occurred_at)
            content = _content(decoded, instant)
            first = first or content
            key = None if "event_id" in event else self._key(first, content, instant)
            prepared.append(EventToSend(body, type_of(decoded), key, is_timeless))
        return prepared

    def _decoded(self, event: JsonObject) -> tuple[bytes, AnyEvent | ExtensionEvent]:
        try:
            whole = {"event_id": NO_ID, **event}
            whole.setdefault("occurred_at", self._as_of)
            body = msgspec.json.encode(whole)
            return body, decode_event(body)
        except msgspec.ValidationError as error:
            raise RefusedEventError(refusal_of(error, AnyEvent)) from None
        except UnusableEventError as error:
            raise RefusedEventError(_refusal(error)) from None
        except UnicodeEncodeError:
            raise RefusedEventError(Refusal(broken_field(event), HALF_A_CHARACTER)) from None
        except UNSENDABLE as error:
            raise RefusedEventError(Refusal(None, f"cannot be sent: {error}")) from None

    def _instant(self, given: datetime) -> datetime:
        try:
            check_instant(given, self._now)
        except UnusableEventError as error:
            raise RefusedEventError(_refusal(error)) from None
        return given.astimezone(UTC)

    def _key(self, first: bytes, content: bytes, instant: datetime | None) -> bytes:
        """Return a key that begins with the second, so that keys of one time are neighbours on the disk."""
        second = min(max(int(instant.timestamp()), 0), LAST_SECOND) if instant else 0
        digest = hashlib.blake2b(first, digest_size=16, key=self._host)
        digest.update(b"\n" + content)
        return second.to_bytes(4, "big") + digest.digest()


def _content(event: AnyEvent | ExtensionEvent, instant: datetime | None) -> bytes:
    try:
        data = encode_data(event)
    except UnusableEventError as error:
        raise RefusedEventError(_refusal(error)) from None
    parts = (type_of(event), instant, event.visitor, event.product, event.channel, event.probe)
    return msgspec.json.encode(parts) + data


def _refusal(error: UnusableEventError) -> Refusal:
    return Refusal((error.error.pointer or "").lstrip("/") or None, error.error.detail)
