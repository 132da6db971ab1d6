"""A reading that nobody takes to its end is closed, also while its next batch is under way, by a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import aclosing
from functools import partial

import pyarrow as pa
import pytest

from usage_service.log.arrow import stream_batches
from usage_service.shared import threads
from usage_service.shared.threads import in_turn, to_end


class Reading:
    """Reading of three batches, the last of which comes when it is let."""

    def __init__(self) -> None:
        self.asked, self.let, self.closed = threading.Event(), threading.Event(), threading.Event()

    def batches(self) -> Iterator[int]:
        assert threading.current_thread().daemon  # the process does not wait for it
        try:
            yield 1
            yield 2
            self.asked.set()
            self.let.wait(60)
            yield 3
        finally:
            self.closed.set()


async def test_taken_to_its_end_it_is_closed() -> None:
    reading = Reading()
    reading.let.set()
    assert [batch async for batch in in_turn(reading.batches(), "test")] == [1, 2, 3]
    assert reading.closed.is_set()


async def test_who_stops_early_closes_it() -> None:
    reading = Reading()
    reading.let.set()
    async with aclosing(in_turn(reading.batches(), "test")) as taken:
        assert await anext(taken) == 1
    assert reading.closed.is_set()


async def test_who_is_cancelled_does_not_wait_for_a_batch_that_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "CLOSING_SECONDS", 0.0)
    reading = Reading()

    async def take() -> None:
        async with aclosing(in_turn(reading.batches(), "test")) as taken:
            async for _ in taken:
                pass

    taking = asyncio.create_task(take())
    assert await asyncio.to_thread(reading.asked.wait, 20)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert not reading.closed.is_set()
    reading.let.set()
    assert await asyncio.to_thread(reading.closed.wait, 20)


async def test_who_stops_a_stream_of_what_is_made_of_it_closes_it_in_a_thread() -> None:
    closed_by = []

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            while True:
                yield pa.record_batch({"position": [1]})
        finally:
            closed_by.append(threading.current_thread())

    reading = batches()
    async with aclosing(stream_batches(reading)) as stream:
        await anext(stream)
        await anext(stream)
    assert [thread is not threading.main_thread() for thread in closed_by] == [True]


async def test_what_it_raises_is_raised() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    taken = in_turn(broken(), "test")
    assert await anext(taken) == 1
    with pytest.raises(ValueError, match="broken"):
        await anext(taken)


async def test_who_is_cancelled_waits_for_the_end_of_what_uses_what_it_closes() -> None:
    """A database that is closed while a thread is in it took the process."""
    asked, let, over = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        asked.set()
        assert let.wait(20)
        over.set()

    async def closing() -> bool:
        try:
            await to_end(work, "test")
        finally:
            assert over.is_set()
        return False

    caller = asyncio.create_task(closing())
    assert await asyncio.to_thread(asked.wait, 20)
    caller.cancel()
    await asyncio.sleep(0)  # the cancellation reaches it
    let.set()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_nobody_waits_for_long_for_what_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "CLOSING_SECONDS", 0.01)
    let = threading.Event()
    caller = asyncio.create_task(to_end(partial(let.wait, 60), "test"))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    let.set()
