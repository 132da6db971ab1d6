"""A table fits the terminal and breaks no word: columns fold between words, or are left out and named."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.support.servers import rounds
from usage_service.shared.table_layout import Column, blocks, fitting, lines, words, wrapped
from usage_service.shared.tables import cell, show, tell

TEXTS = st.text(st.sampled_from("ab_/. 9漢é"), max_size=30)
ROW = {
    "product": "fog",
    "probe": "performance_page_total_content_page_load_6",
    "seen_at": "2026-11-29T08:52:33.25Z",
    "owners": ["somebody@example.org", "another@example.org"],
    "file": "/var/log/nginx/access.log-20261128.gz",
    "views": 1234567,
}


@st.composite
def tables(draw: st.DrawFn) -> list[Column]:
    rows = draw(st.integers(0, 4))
    count = draw(st.integers(1, 6))
    cells = st.lists(TEXTS, min_size=rows, max_size=rows)
    return [
        Column(draw(st.sampled_from(["a", "last seen", "x_y"])), draw(cells), draw(st.booleans())) for _ in range(count)
    ]


@settings(max_examples=rounds(50), deadline=None)
@given(tables(), st.integers(12, 90))
def test_no_line_is_too_long_and_no_word_is_broken(columns: list[Column], room: int) -> None:
    kept = fitting(columns, room)
    assert kept == columns[: len(kept)]
    assert kept
    printed = list(lines(kept, room))
    assert all(cell_len(line) <= room for line in printed)
    shown = words(" ".join(printed))
    for column in kept:
        for word in (word for text in column.texts for word in words(text) if cell_len(word) <= room):
            assert word in shown


@settings(max_examples=rounds(20), deadline=None)
@given(tables(), st.integers(30, 90))
def test_rows_as_blocks_lose_nothing(columns: list[Column], room: int) -> None:
    printed = "\n".join(blocks(columns, room))
    assert all(word in printed for one in columns for text in one.cells for word in words(text) if len(word) < 10)


def test_without_a_limit_nothing_is_folded() -> None:
    columns = [Column("name", ["a b c " * 50]), Column("n", ["1"], is_number=True)]
    assert fitting(columns, None) == columns
    assert len(list(lines(columns, None))) == 2


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_names_dates_and_files_are_whole(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    show([ROW, ROW | {"probe": "gc_ms"}], list(ROW), "table")
    told = capsys.readouterr()
    assert max(map(len, told.out.splitlines())) <= width
    assert width == 40 or "performance_page_total_content_page_load_6" in told.out
    if width == 120:
        assert "2026-11-29 08:52:33" in told.out
        assert "views" in told.err  # named, as there is no room for it
    if width == 40:  # a line for each value, where most columns would be lost
        assert "1,234,567" in told.out


def test_a_pipe_has_it_all(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    show([ROW], list(ROW), "table")
    told = capsys.readouterr()
    assert told.err == ""
    assert len(told.out.splitlines()) == 2
    assert "another@example.org  /var/log/nginx/access.log-20261128.gz" in told.out
    show([ROW], list(ROW))
    header, row = capsys.readouterr().out.splitlines()
    assert header == ",".join(ROW)
    assert "1234567" in row


def test_a_sentence_is_broken_between_words_on_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    tell("one line " * 9)
    assert len(capsys.readouterr().out.splitlines()) == 1
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    tell("  somebody@example.org told\x1b[31m us this", err=True)
    assert capsys.readouterr().err == "  somebody@example.o\n  rg told\\x1b[31m us\n  this\n"


def test_values_are_plain() -> None:
    told = [
        cell(value) for value in ("2026-11-29T00:00:00Z", "2026-11-29T08:52:33.25Z", 1234, 0.12345, -0.0, True, None)
    ]
    assert told == ["2026-11-29", "2026-11-29 08:52:33", "1,234", "0.123", "0", "yes", ""]


def test_a_word_wider_than_the_room_is_broken_and_nothing_is_lost() -> None:
    assert wrapped("abcdef gh", 4) == ["abcd", "ef", "gh"]
    assert "".join(wrapped("漢漢漢", 1)) == "漢漢漢"
