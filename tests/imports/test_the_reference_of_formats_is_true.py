"""docs/imports.md is made from the formats: their fields, and what becomes of each line of their examples."""

from __future__ import annotations

from pathlib import Path

from usage_service.imports.formats import FORMATS, format_of
from usage_service.imports.reference_page import example_lines, imports_page

PAGE = Path(__file__).parents[2] / "docs" / "imports.md"


def test_the_page_is_that_of_the_formats() -> None:
    assert PAGE.read_text("utf-8") == imports_page(), "run: usage-service reference imports > docs/imports.md"


def test_every_format_has_an_example_which_is_recognized_and_has_lines_to_record() -> None:
    for one in FORMATS:
        assert one.example, one.name
        assert format_of(one.example.text.encode(), one.example.name) is one
        assert any(line.events for line in example_lines(one, one.example)), one.name
