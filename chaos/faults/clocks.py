"""The clock of the machine jumps: for PostgreSQL, the servers and the builders, by libfaketime; not for the clients."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from chaos.faults.fault import SHORT_SECONDS, Fault
from chaos.stack import Ground, Stack

LIBRARY = next((str(path) for path in sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
OFFSET_FILE = "offset"
HOUR = 3_600
WRONG_BY_SECONDS = 60
NOW = "SELECT extract(epoch FROM clock_timestamp())"


def needs_libfaketime() -> str | None:
    """Say why the clock is not moved, where there is nothing to move it with."""
    return None if LIBRARY else "needs libfaketime"


def clock(directory: Path) -> dict[str, str]:
    """Return the environment of programs whose clock follows a file in the directory."""
    return {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(directory / OFFSET_FILE),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def right_at_first(_exits: ExitStack, directory: Path) -> None:
    """Begin with the true time."""
    set_clock(directory, 0)


def set_clock(directory: Path, seconds: int) -> None:
    """Have the clock be so many seconds ahead."""
    new = directory / f"{OFFSET_FILE}.new"
    new.write_text(f"{seconds:+d}")
    new.chmod(0o644)
    new.replace(directory / OFFSET_FILE)


def jumping(seconds: int) -> Callable[[Stack], AbstractContextManager[None]]:
    """Return a fault that moves the clock, and moves it back at its end."""

    @contextmanager
    def jump(stack: Stack) -> Iterator[None]:
        set_clock(stack.directory, seconds)
        if not stack.wait(lambda: abs(float(stack.sql(NOW)) - time.time() - seconds) < WRONG_BY_SECONDS, 10):
            stack.complain("the clock of the database did not jump")
        yield
        set_clock(stack.directory, 0)

    return jump


def jump_of(name: str, says: str, seconds: int) -> Fault:
    """Return the fault of a clock that jumps so many seconds."""
    ground = Ground(prepare=right_at_first, environ=clock)
    return Fault(name, says, jumping(seconds), hold=SHORT_SECONDS, ground=ground, missing=needs_libfaketime)


FAULTS = (
    jump_of("clock-ahead", "the clock jumps an hour ahead, and back", HOUR),
    jump_of("clock-back", "the clock jumps an hour back, and ahead", -HOUR),
)
