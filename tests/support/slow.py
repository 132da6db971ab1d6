"""The test files that slow.txt lists: `make test-quick` leaves them out, and a whole run begins with them."""

from __future__ import annotations

from pathlib import Path

import pytest

_TESTS = Path(__file__).parents[1]
_LIST = _TESTS / "slow.txt"
_NAMES = (line for line in _LIST.read_text("utf-8").splitlines() if not line.startswith("#"))
_RANKS = {_TESTS / name: rank for rank, name in enumerate(_NAMES)}


def is_slow(path: Path) -> bool:
    """Tell whether a test file is slow as a whole."""
    return path in _RANKS


def longest_first(items: list[pytest.Item]) -> None:
    """Mark the tests of slow files and put them first; the tests of each file stay together and in their order.

    Lines that only they run do not count as covered: counting takes a third of a test's time, of plain Python half.
    """
    for item in items:
        if is_slow(item.path):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.no_cover)
    items.sort(key=lambda item: (_RANKS.get(item.path, len(_RANKS)), item.path))


def check() -> None:
    """Raise UsageError when the list names a file that is not there."""
    missing = [str(path) for path in _RANKS if not path.is_file()]
    if missing:
        raise pytest.UsageError(f"{_LIST} names what is not there: {', '.join(missing)}")
