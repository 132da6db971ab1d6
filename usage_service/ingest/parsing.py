"""Parsing of request bodies into events, each checked on its own."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, NoReturn
from uuid import UUID

import msgspec
from asyncpg.pgproto import pgproto

from usage_service.event_decoding import (
    UnusableEventError,
    check_instant,
    decode_event,
    encode_data,
    encode_sorted,
    type_of,
)
from usage_service.events import AnyEvent, ExtensionEvent, Instant
from usage_service.ingest.appending import Record
from usage_service.ingest.bulk_decoding import DecodedEnvelope, decode_envelope, decode_list, decode_one
from usage_service.ingest.masking import Masking
from usage_service.ingest.visitors import VisitorKeys
from usage_service.problems import NOT_JSON, FieldError, Problem, field_error, invalid, not_json

MOST_EVENTS = 1_000


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """Events, with the sender's clock at the time of sending, by which the times of the events are corrected."""

    events: list[msgspec.Raw]
    sent_at: Instant | None = None


Posted = Envelope | DecodedEnvelope


class _Shape(msgspec.Struct):
    """The fields that tell a body or an event apart from others."""

    type: object = None
    events: object = msgspec.UNSET
    event_id: object = None


# The reasons of refusals: the field that is wrong, `unknown_field`, or the event as a whole.
REASONS = ("event", "unknown_field", *ExtensionEvent.__struct_fields__)

_shape = msgspec.json.Decoder(_Shape)
_envelope = msgspec.json.Decoder(Envelope)
_list = msgspec.json.Decoder(list[msgspec.Raw])
_encode = msgspec.json.Encoder().encode


class Refusal(msgspec.Struct, frozen=True):
    """The refusal of an event, with its id and the field that is wrong."""

    event_id: str | None
    error: FieldError


class _Arrival(NamedTuple):
    """What the events of a body have in common: who sent them, when, by which clock, and the visitors' epoch."""

    source: str
    received: datetime
    skew: timedelta
    epoch: int


class Reader:
    """Turns the events of request bodies into records."""

    def __init__(self, visitors: VisitorKeys, masking: Masking | None = None) -> None:
        self._visitors = visitors
        self._masking = masking or Masking()
        self.refusals: Counter[str] = Counter(dict.fromkeys(REASONS, 0))  # by reason, so far

    def read(self, envelope: Posted, source: str, received: datetime) -> list[Record | Refusal]:
        """Return a record or a refusal for each event of the envelope, in order."""
        skew = received - envelope.sent_at if envelope.sent_at else timedelta(0)
        arrival = _Arrival(source, received, skew, self._visitors.epoch(received))
        return [self._read_event(given, arrival) for given in envelope.events]

    def _read_event(self, given: AnyEvent | msgspec.Raw, arrival: _Arrival) -> Record | Refusal:
        try:
            return self._record(decode_event(given) if isinstance(given, msgspec.Raw) else given, arrival)
        except msgspec.ValidationError as error:
            return self._refusal(given, field_error(error, AnyEvent))
        except UnusableEventError as error:
            return self._refusal(given, error.error)

    def _refusal(self, given: AnyEvent | msgspec.Raw, error: FieldError) -> Refusal:
        self.refusals[_reason(error)] += 1
        return Refusal(_event_id(given) if isinstance(given, msgspec.Raw) else str(given.event_id), error)

    def _record(self, event: AnyEvent | ExtensionEvent, arrival: _Arrival) -> Record:
        utc = _in_utc(event.occurred_at)
        occurred_at = _corrected(utc, arrival)
        kind, sent = type_of(event), encode_data(event)
        masked = self._masking.mask(event, sent)
        return Record(
            self._visitors.stored_id(event.event_id),
            kind,
            event.schema_version,
            occurred_at,
            self._visitors.of(event.visitor, arrival.epoch) if event.visitor else None,
            event.product,
            event.channel,
            event.probe,
            arrival.source,
            msgspec.Raw(encode_sorted(masked.data) if masked else sent),
            _digest(event, kind, utc, sent),
            masked.pointers if masked else (),
            event.event_id,
        )


def parse_body(body: bytes) -> Posted:
    """Parse a single event, an array, or an envelope. Raise Problem 400 for invalid JSON, 422 for another shape."""
    try:
        envelope = _parse(body)
    except msgspec.ValidationError as error:
        raise Problem(
            422,
            "Invalid input",
            "the body is neither an event, an array of events nor an envelope",
            [field_error(error)],
        ) from None
    except NOT_JSON as error:
        each = _event_by_event(body)
        if each is None:
            raise Problem(400, "Not JSON", f"the body is {not_json(error)}") from None
        envelope = each
    _check_number(len(envelope.events))
    return envelope


def parse_lines(body: bytes) -> Posted:
    """Split newline-delimited JSON, an event a line, without empty lines; a line that is not JSON is refused alone."""
    lines = [line for line in body.split(b"\n") if line.strip()]
    _check_number(len(lines))
    return Envelope([msgspec.Raw(line) for line in lines])


def _check_number(events: int) -> None:
    if not 1 <= events <= MOST_EVENTS:
        raise invalid([FieldError(pointer="", detail=f"holds {events} events; a request takes 1 to {MOST_EVENTS}")])


def _parse(body: bytes) -> Posted:
    """Parse a body, nearly always all of it at once; else its events are left to be decoded one by one."""
    is_list = body.lstrip()[:1] == b"["
    try:
        return decode_list(body) if is_list else decode_one(body)
    except NOT_JSON:  # of one of the events, or of all
        pass
    if is_list:
        return Envelope(_list.decode(body))
    if _shape.decode(body).events is msgspec.UNSET:
        return Envelope([msgspec.Raw(body)])
    try:
        return decode_envelope(body)
    except NOT_JSON:
        return _envelope.decode(body)


def _event_by_event(body: bytes) -> Envelope | None:
    """Split a body that has half a character, a lone surrogate, which JavaScript may send; None for what is no JSON.

    The one event that has it is refused then, and not all.
    """
    try:
        found = json.loads(body, parse_constant=_no_number)
        envelope = {"events": found} if isinstance(found, list) else found
        events = [msgspec.Raw(json.dumps(event).encode()) for event in envelope["events"]]
        return msgspec.structs.replace(msgspec.convert({**envelope, "events": []}, Envelope), events=events)
    except (ValueError, TypeError, KeyError, RecursionError, msgspec.MsgspecError):
        return None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _in_utc(instant: datetime) -> datetime:
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise UnusableEventError("/occurred_at", "is outside the calendar") from None


def _corrected(utc: datetime, arrival: _Arrival) -> datetime:
    skew = arrival.skew
    try:
        corrected = utc + skew
    except OverflowError:  # beyond one end of the calendar: that end
        corrected = (datetime.max if skew > timedelta(0) else datetime.min).replace(tzinfo=UTC)
    check_instant(corrected, arrival.received, "send sent_at where your clock is wrong")
    return corrected


def _digest(event: AnyEvent | ExtensionEvent, kind: str, utc: datetime, data: bytes) -> UUID:
    # Without the visitor: the log must hold nothing that a guess of a raw id could be checked against.
    content = _encode((kind, utc, event.product, event.channel, event.probe, data.decode()))
    # asyncpg's own UUID class is made, and sent, several times as fast as Python's.
    return pgproto.UUID(hashlib.blake2b(content, digest_size=16).digest())


def _reason(error: FieldError) -> str:
    """Return the reason of a refusal, one of REASONS: what callers send must not make up more of them."""
    field = (error.pointer or "").split("/")[1:2]
    if not field:
        return "event"
    return field[0] if field[0] in REASONS else "unknown_field"


def _event_id(raw: msgspec.Raw) -> str | None:
    try:
        event_id = _shape.decode(raw).event_id
    except NOT_JSON:
        return None
    return event_id if isinstance(event_id, str) else None
