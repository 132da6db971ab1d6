"""Whatever characters a file has in any place: each line is an event, a refusal or left out, and may be printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from usage_service.imports.formats import FORMATS
from usage_service.imports.lines import Example, Format, Options
from usage_service.imports.refusals import Refusal, UnreadableFileError
from usage_service.imports.source import open_source

HOSTILE = ("\ud800", "\x1b[31mred", "\u202egnp.exe")


def documents(example: Example) -> list[Any]:
    """Return the example as the JSON that it is: a document, or a value on each line; none of what is no JSON."""
    try:
        return [json.loads(example.text)]
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in example.text.splitlines()]
    except ValueError:
        return []


def spoiled(value: object, text: str) -> Iterator[Any]:
    """Return the value with this text in the place of each part and each name, one at a time."""
    yield text
    if isinstance(value, dict):
        for name, part in value.items():
            yield {text if other == name else other: each for other, each in value.items()}
            yield from (value | {name: changed} for changed in spoiled(part, text))
    if isinstance(value, list):
        for index, part in enumerate(value):
            yield from ([*value[:index], changed, *value[index + 1 :]] for changed in spoiled(part, text))


@pytest.mark.parametrize("one", FORMATS, ids=lambda one: one.name)
def test_every_line_is_told(tmp_path: Path, one: Format) -> None:
    assert one.example
    path = tmp_path / one.example.name
    options = Options(product=one.example.product)
    for text in HOSTILE:
        for document in documents(one.example):
            for changed in spoiled(document, text):
                path.write_text(json.dumps(changed, indent=4 if len(documents(one.example)) == 1 else None))
                for told in tellings(path, one, options):
                    assert told.isprintable(), told


def tellings(path: Path, one: Format, options: Options) -> Iterator[str]:
    """Read a file, and return what is said of each line that is not an event."""
    try:
        with open_source(path) as source:
            for line in one.lines(source, options):
                assert line.events or line.refusal or line.left_out
                yield str(line.refusal or line.left_out or "")
    except UnreadableFileError as error:
        yield str(error)


def test_what_a_refusal_repeats_is_escaped() -> None:
    assert Refusal("labels/1", "is no text", "gc").kind == Refusal("labels/1", "is no text", "js").kind
    assert Refusal("labels/1", "is no text", "gc").where == "gc/labels/1"
    assert str(Refusal("a\ud800\x1b[0m\n", "b\x00")) == "a\\ud800\\x1b[0m\\n: b\\x00"
