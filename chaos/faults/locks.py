"""Locks that somebody holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from chaos.faults.fault import SHORT_SECONDS, Fault
from chaos.stack import Stack


def holding(statement: str) -> Callable[[Stack], AbstractContextManager[None]]:
    """Return a fault that holds what a statement takes until the end of its transaction."""

    @contextmanager
    def hold(stack: Stack) -> Iterator[None]:
        with stack.session() as session, session.transaction():
            session.execute(statement)
            yield

    return hold


FAULTS = (
    Fault("log-lock", "somebody holds the lock that every append takes", holding("SELECT lock_event_log()")),
    Fault(
        "log-table", "somebody holds the whole table of the log",
        holding("LOCK TABLE event_log IN ACCESS EXCLUSIVE MODE"),
    ),
    Fault(
        "projection-table", "somebody holds the tables of a projection",
        holding("LOCK TABLE popularity_views, popularity_visitors IN ACCESS EXCLUSIVE MODE"), hold=SHORT_SECONDS,
    ),
)  # fmt: skip
