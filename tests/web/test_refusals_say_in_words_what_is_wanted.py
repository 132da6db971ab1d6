"""A value that a pattern refuses is answered with what is wanted, in words: nobody is shown a regular expression."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec
import pytest
from msgspec import inspect

import builder
import usage_service
import warehouse
from tests.support.bad_input import refused
from tests.support.servers import Client
from usage_service.events import AnyEvent, Instant, Product, TimeUnit
from usage_service.problems import FieldError, field_error
from usage_service.shared.patterns import in_words
from usage_service.shared.settings import SettingsError, UpSettings, load_settings

NO_ID = "00000000-0000-4000-8000-000000000000"
TOP = (usage_service, builder, warehouse)


def loaded_structs() -> set[type[msgspec.Struct]]:
    """Return every struct, whichever modules other tests have loaded."""
    for package in TOP:
        root = Path(package.__path__[0])
        for file in root.rglob("*.py"):
            if "Struct" in file.read_text("utf-8"):
                import_module(".".join(file.relative_to(root.parent).with_suffix("").parts))
    ours = tuple(package.__name__ for package in TOP)
    return {one for one in below(msgspec.Struct) if one.__module__.partition(".")[0] in ours}


def below(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for one in kind.__subclasses__():
        yield one
        yield from below(one)


def patterns(kind: object, seen: set[int]) -> Iterator[str]:
    """Return the patterns anywhere in a type, as msgspec describes types."""
    if id(kind) in seen:
        return
    seen.add(id(kind))
    if isinstance(kind, inspect.StrType) and kind.pattern is not None:
        yield kind.pattern
    parts = getattr(kind, "__struct_fields__", ())
    for part in (getattr(kind, name) for name in parts):
        for one in part if isinstance(part, tuple) else (part,):
            yield from patterns(one, seen)


def test_every_pattern_has_its_words() -> None:
    plain = [one for one in loaded_structs() if not getattr(one, "__parameters__", ())]
    found = {pattern for struct in plain for pattern in patterns(inspect.type_info(struct), set())}
    assert len(found) > 20
    told = {pattern: in_words(f"Expected `str` matching regex {pattern!r}") for pattern in found}
    assert not [pattern for pattern, said in told.items() if not said.startswith("must be ")]


@pytest.mark.parametrize("given", ["Fog", "fog'", 'fog"', "a b", "x" * 33, "fog\n"])
def test_the_words_take_the_place_of_the_pattern(given: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert({"product": given}, dict[str, Product])
    told = field_error(refused.value)
    assert told.detail == "must be small letters, digits, _ and - after a letter, 32 at most, such as fog or nightly"
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert({"type": "page_viewed", "product": given}, AnyEvent)
    assert field_error(refused.value).pointer == "/product"


class Part(msgspec.Struct, forbid_unknown_fields=True):
    """Part of a body."""

    unit: TimeUnit | None = None


class Whole(msgspec.Struct, forbid_unknown_fields=True):
    """Body with parts at every kind of place."""

    order: Annotated[Literal["up", "down"], msgspec.Meta(description="of a list")] = "up"
    kinds: tuple[Literal["a", "b"], ...] = ()
    parts: list[Part] = []
    named: dict[str, Part] = {}


@pytest.mark.parametrize(
    ("given", "pointer", "said"),
    [
        ({"order": "left"}, "/order", "must be one of up, down"),
        ({"kinds": ["a", "c"]}, "/kinds/1", "must be one of a, b"),
        ({"parts": [{}, {"unit": "ms"}]}, "/parts/1/unit", f"must be one of {', '.join(get_args(TimeUnit))}"),
        ({"parts": [{"unti": "day"}]}, "/parts/0/unti", "is not known; there are unit"),
        ({"named": {"one": {"unit": "ms"}}}, "/named", "Invalid enum value 'ms'"),  # where it is msgspec does not say
        ({"colour": 1}, "/colour", "is not known; there are order, kinds, parts, named"),
    ],
)
def test_choices_and_fields_are_those_of_the_place(given: dict[str, object], pointer: str, said: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(given, Whole)
    told = field_error(refused.value, Whole)
    assert (told.pointer, told.detail) == (pointer, said)


@pytest.mark.parametrize(
    ("data", "pointer", "said"),
    [
        ({"time_unit": "ms"}, "/data/time_unit", f"must be one of {', '.join(get_args(TimeUnit))}"),
        ({"colour": 1}, "/data/colour", "is not known"),
    ],
)
def test_choices_of_an_event_are_told(data: dict[str, object], pointer: str, said: str) -> None:
    event = {"event_id": NO_ID, "type": "probe_registered", "occurred_at": "2026-11-20T00:00:00Z", "product": "fog"}
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(event | {"probe": "gc_ms", "data": {"type": "counter", "ping": "metrics"} | data}, AnyEvent)
    told = field_error(refused.value, AnyEvent)
    assert (told.pointer, told.detail) == (pointer, said)


async def test_a_body_is_told_what_to_choose_from(client: Client) -> None:
    response = await client.put("/v1/hotlist/rules/fog/gc_ms", json={"rule": "pined"})
    [error] = (await refused(response, 422))["errors"]
    assert error == {"pointer": "/rule", "detail": "must be one of pinned, excluded"}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/popularity?",
        "/v1/sessions?",
        "/v1/timeseries?product=fog&probe=gc_ms&",
        "/v1/hotlist/experiment?product=fog&",
    ],
)
async def test_a_range_that_begins_too_late_names_what_was_asked(client: Client, path: str) -> None:
    for until, said in (("", "must be before now"), ("&until=2026-11-01", "must be before until")):
        answer = await client.get(f"{path}since=2090-01-01{until}")
        [error] = (await refused(answer, 422))["errors"]
        assert error == {"parameter": "since", "detail": said}


def test_a_pattern_without_words_is_left_as_it_is() -> None:
    assert (
        in_words("Expected `str` matching regex '^q$' - at `$.a`") == "Expected `str` matching regex '^q$' - at `$.a`"
    )
    assert in_words("Expected `int`, got `str`") == "Expected `int`, got `str`"


A_TIME = "must be a time in RFC 3339 with a zone, such as 2026-11-23T10:00:00Z"


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        (Instant, 5, A_TIME),
        (Instant, "2026-11-23", A_TIME),
        (Instant, "2026-11-23T10:00:00", A_TIME),
        (Instant | None, True, A_TIME),
        (Annotated[float, msgspec.Meta(ge=0, le=1)], 95, "must be at most 1"),
        (Annotated[float, msgspec.Meta(gt=0.5)] | None, 0.5, "must be above 0.5"),
        (Annotated[int, msgspec.Meta(ge=-10)], -11, "must be at least -10"),
        (Annotated[str, msgspec.Meta(min_length=1)], "", "must have at least 1 character"),
        (Annotated[str, msgspec.Meta(max_length=2)] | None, "abc", "must have at most 2 characters"),
        (Annotated[list[int], msgspec.Meta(max_length=2)], [1, 2, 3], "must have at most 2 items"),
    ],
)
def test_times_and_bounds_are_told_without_names_of_types(kind: object, given: object, said: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert({"value": given}, msgspec.defstruct("Body", [("value", kind)]))
    assert field_error(refused.value) == FieldError(pointer="/value", detail=said)


def test_settings_say_it_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://x")
    with pytest.raises(SettingsError, match=r"^DATABASE_URL: must be an address such as postgresql://"):
        load_settings(UpSettings)
