"""The test files that slow.txt lists: `make test-quick` leaves them out, and a whole run begins with them.

Neither their lines are counted nor those of the files that uncounted.txt lists.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from coverage import Coverage

_TESTS = Path(__file__).parents[1]


def _listed(name: str) -> dict[Path, int]:
    """Return the test files that a list names, each with its place in it."""
    names = (line for line in (_TESTS / name).read_text("utf-8").splitlines() if not line.startswith("#"))
    return {_TESTS / name: rank for rank, name in enumerate(names)}


_RANKS, _UNCOUNTED = _listed("slow.txt"), _listed("uncounted.txt")


def is_slow(path: Path) -> bool:
    """Tell whether a test file is slow as a whole."""
    return path in _RANKS


def longest_first(items: list[pytest.Item]) -> None:
    """Mark the tests of slow files and put them first; the tests of each file stay together and in their order."""
    for item in items:
        if is_slow(item.path):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: (_RANKS.get(item.path, len(_RANKS)), item.path))


def check() -> None:
    """Raise UsageError when a list names a file that is not there."""
    missing = [str(path) for path in [*_RANKS, *_UNCOUNTED] if not path.is_file()]
    if missing:
        raise pytest.UsageError(f"slow.txt or uncounted.txt names what is not there: {', '.join(missing)}")


class Uncounted:
    """Count no lines in slow tests, nor in those of uncounted.txt, and their fixtures: as a pytest plugin.

    Lines that only they run do not count as covered: counting takes a third of a test's time, of plain Python half.
    """

    def __init__(self) -> None:
        self._paused: list[Coverage] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self, session: pytest.Session) -> Generator[None, object, object]:
        """Count in one worker what importing all modules runs: in the others it is the same."""
        self._count(os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0")
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Pause before the first of some tests that do not count, and go on before the next that does."""
        self._count(item.get_closest_marker("slow") is None and item.path not in _UNCOUNTED)
        return (yield)

    def _count(self, counts: bool) -> None:
        """Pause or go on with all that counts: each worker has two, and to stop one wakes the one below it."""
        if counts:
            while self._paused:
                self._paused.pop().start()
        else:
            while (counting := Coverage.current()) is not None:
                counting.stop()
                self._paused.append(counting)
