"""No number that comes from outside is larger than a database holds: requests, commands and settings bound each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import ModuleType
from typing import cast

import msgspec
import pytest
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

import builder.cli
import usage_service.cli
from builder.settings import BuilderSettings, WarehouseSettings
from tests.support.servers import JsonObject
from usage_service.log.stored_events import LARGEST_POSITION
from usage_service.shared.settings import ClientSettings, MirrorSettings, ServerSettings, UpSettings
from usage_service.web.api.routes import ROUTES
from usage_service.web.openapi.document import openapi_document

SETTINGS = [ServerSettings, MirrorSettings, ClientSettings, UpSettings, BuilderSettings, WarehouseSettings]
SEEDS = {"seed", "seed_number"}  # of what is made up: any number will do


def unbounded(part: object, document: JsonObject, where: str, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """Return where a JSON Schema takes integers without a bound."""
    if isinstance(part, list):
        for number, one in enumerate(part):
            yield from unbounded(one, document, f"{where}/{number}", seen)
    elif isinstance(part, dict):
        if part.get("type") == "integer" and not part.get("maximum", LARGEST_POSITION + 1) <= LARGEST_POSITION:
            yield where
        for name, one in part.items():
            if name != "$ref":
                yield from unbounded(one, document, f"{where}/{name}", seen)
            elif one not in seen:
                found: object = document
                for step in one.removeprefix("#/").split("/"):
                    found = cast("JsonObject", found)[step]
                yield from unbounded(found, document, one, seen | {one})


def test_of_every_request() -> None:
    document = json.loads(json.dumps(openapi_document(ROUTES)))
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            asked = [operation["parameters"], operation.get("requestBody")]
            assert not [*unbounded(asked, document, f"{method} {path}")]


def options_of(command: TyperCommand | TyperGroup, words: str) -> Iterator[tuple[str, TyperOption]]:
    for option in command.params:
        yield words, cast(TyperOption, option)
    for name, one in getattr(command, "commands", {}).items():
        yield from options_of(one, f"{words} {name}")


@pytest.mark.parametrize("program", [usage_service.cli, builder.cli])
def test_of_every_command(program: ModuleType) -> None:
    command = cast(TyperGroup, get_command(program.make_app()))
    numbers = [
        (f"{words} {option.name}", option.max)
        for words, option in options_of(command, program.__name__)
        if option.type_descriptor.annotation is int and option.name not in SEEDS
    ]
    assert len(numbers) > 2
    assert [name for name, most in numbers if most is None or most > LARGEST_POSITION] == []


@pytest.mark.parametrize("kind", SETTINGS)
def test_of_every_setting(kind: type[msgspec.Struct]) -> None:
    schema = msgspec.json.schema(kind)
    assert not [*unbounded(schema, schema, "#")]
