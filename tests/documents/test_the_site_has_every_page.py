"""The site leads to every document; that all links of it lead somewhere is what `make docs` checks."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_each_document_has_a_chapter_and_a_line_in_the_index() -> None:
    chapters = runpy.run_path(str(DOCS / "conf.py"))["CHAPTERS"]
    placed = [page for pages in chapters.values() for page in pages]
    written = {str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.rglob("*.md")}
    assert sorted(placed) == sorted(one for one in written if one != "index" and not re.match(r"adr/\d", one))
    index = (DOCS / "index.md").read_text("utf-8")
    assert [page for page in placed if f"({page}.md)" not in index] == []


def test_decisions_have_a_number_of_their_own() -> None:
    numbers = [path.name[:4] for path in (DOCS / "adr").glob("0*.md")]
    assert len(numbers) == len(set(numbers))
