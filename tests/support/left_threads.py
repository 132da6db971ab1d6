"""Find the threads that a test leaves running: they act, log and draw random numbers during the tests after it."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from typing import Any

import pytest

SECONDS = 10.0  # within which a thread that was told to end is gone on a busy machine; one that nobody told never is
# Threads by the beginning of their names, and why each may outlive a test.
OF_THE_PROCESS = {"Dummy-": "a library's own thread that called Python once: Python is not told when it ends"}
OF_THE_MODULE = {
    "asyncio_": "the module's event loop joins them when it closes",
    "warehouse-": "the module's warehouse ends them when it closes",
}


class LeftThreads:
    """Fail the test, by its name, after which a thread goes on that did not run before it.

    What fixtures of a module or a session have started goes on as long as they do.
    """

    def __init__(self) -> None:
        self._before_module: set[threading.Thread] = set()
        self._before_test: set[threading.Thread] = set()
        self._of_fixtures: set[threading.Thread] = set()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None]:
        """Note what runs before the test and its fixtures."""
        self._before_test = set(threading.enumerate())
        if not self._before_module:
            self._before_module = set(self._before_test)
            self._of_fixtures = set()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        """Note what a fixture starts that outlives the test which is the first to ask for it."""
        before = set(threading.enumerate())
        value = yield
        if fixturedef.scope != "function":
            started = set(threading.enumerate()) - before
            self._of_fixtures |= started
            if fixturedef.scope == "session":
                self._before_module |= started
        return value

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
        """Look for what is left after the test, and after the last of a module for what its fixtures have left."""
        result = yield
        lasting, names = self._before_test | self._of_fixtures, OF_THE_PROCESS | OF_THE_MODULE
        if nextitem is None or nextitem.path != item.path:
            lasting, names = self._before_module, OF_THE_PROCESS
            self._before_module = set()
        left = _still_running(lasting, tuple(names))
        self._before_module |= left if self._before_module else set()
        if left:
            pytest.fail(f"left running: {', '.join(sorted(repr(thread) for thread in left))}", pytrace=False)
        return result


def _still_running(lasting: set[threading.Thread], names: tuple[str, ...]) -> set[threading.Thread]:
    """Wait for all other threads, and return those that have not ended."""
    deadline = time.monotonic() + SECONDS
    left = {thread for thread in threading.enumerate() if thread not in lasting and not thread.name.startswith(names)}
    for thread in left:
        thread.join(max(0, deadline - time.monotonic()))
    return {thread for thread in left if thread.is_alive()}
