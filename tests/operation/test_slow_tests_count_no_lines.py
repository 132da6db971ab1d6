"""Slow tests run at full speed: nothing counts the lines that they run, in no thread of theirs."""

import sys
import threading

import pytest


def counters() -> list[str]:
    """Return the modules of what traces this thread and a new one."""
    found = [sys.gettrace()]
    thread = threading.Thread(target=lambda: found.append(sys.gettrace()))
    thread.start()
    thread.join()
    return [type(trace).__module__ for trace in found if trace is not None]


@pytest.mark.slow
def test_a_slow_test_is_not_counted() -> None:
    assert not any(module.startswith("coverage") for module in counters())


def test_what_is_quick_is_counted_where_anything_is(request: pytest.FixtureRequest) -> None:
    counts = request.config.pluginmanager.hasplugin("_cov")
    assert sum(module.startswith("coverage") for module in counters()) == 2 * counts  # here, and in a new thread
