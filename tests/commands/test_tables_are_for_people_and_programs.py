"""One printer for all commands: a table where a terminal is looked at, CSV in a pipe, JSON where it is asked for."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

from usage_service.shared.tables import show


def test_nothing_is_a_line_of_names(capsys: pytest.CaptureFixture[str]) -> None:
    show([], ["probe", "views"])
    assert capsys.readouterr().out == "probe,views\n"
    show([], ["probe"], "json")
    assert json.loads(capsys.readouterr().out) == []
    show([], ["first_page"], "table")
    assert capsys.readouterr().out.split() == ["first", "page"]


def test_a_table_is_read_by_people(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"probe": "gc_ms", "views": 1234567, "trend": 0.123456, "bot": True, "tools": ["A", "B"], "page": None},
        {"probe": "slow", "views": 7, "trend": 12345.6, "bot": False, "tools": [], "page": "/"},
    ]
    show(rows, ["probe", "views", "trend", "tools", "page", "bot", "not_there"], "table")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["gc_ms", "1,234,567", "0.123", "A,", "B", "yes"]
    assert lines[2].split() == ["slow", "7", "12,346", "/", "no"]
    assert lines[1].index("1,234,567") + 8 == lines[2].index(" 7") + 1


def test_on_a_terminal_it_is_a_table() -> None:
    ours, theirs = pty.openpty()
    code = "from usage_service.shared.tables import show; show([{'probe': 'gc_ms', 'views': 1234}], ['probe', 'views'])"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=theirs, env=os.environ | {"TERM": "dumb"})
    assert process.wait(20) == 0
    os.close(theirs)
    assert "gc_ms  1,234" in os.read(ours, 4096).decode()
    os.close(ours)
