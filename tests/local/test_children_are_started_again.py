"""A child that dies is started again: for ever once it has come up, a few times before."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.servers import eventually
from usage_service.local import children
from usage_service.local.children import MOST_EARLY_DEATHS, Child, ChildError, fresh_log


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "LONGEST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def child(tmp_path: Path) -> Child:
    """Return a child that says why and dies."""
    return Child("doomed", ["/bin/sh", "-c", "echo no space; exit 3"], os.environ, fresh_log(tmp_path, "doomed"))


async def test_one_that_does_not_come_up_is_an_error_that_says_why(child: Child) -> None:
    with capture_logs() as logs, pytest.raises(ChildError, match=r"doomed does not stay up \(exit 3\):\n.*no space"):
        await child.run()
    assert len(logs) == MOST_EARLY_DEATHS - 1


async def test_one_that_has_come_up_is_started_again_for_as_long_as_it_takes(child: Child) -> None:
    child.has_come_up = True
    with capture_logs() as logs:
        running = asyncio.create_task(child.run())

        async def died_often() -> bool:
            return len(logs) > MOST_EARLY_DEATHS + 1

        await eventually(died_often, "it is started again and again")
        assert not running.done()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await child.stop(20)
    assert {entry["said"] for entry in logs} == {"no space"}


async def test_one_whose_log_has_no_place_is_started_all_the_same(child: Child) -> None:
    child.log_path = child.log_path.parent / "nowhere" / "doomed.log"
    with pytest.raises(ChildError, match="exit 3"):
        await child.run()
