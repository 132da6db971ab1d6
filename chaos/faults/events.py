"""Events that cannot be folded, are many, or are to get positions that are taken; rebuilds that are cut short."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import Request, urlopen
from uuid import uuid4

from bench.stack import BENCH_ENVIRONMENT, ROOT
from chaos.faults.fault import SHORT_SECONDS, Fault
from chaos.stack import Ground, Stack

BEHIND = 500_000
BEHIND_IN_A_REBUILD = 200_000
CATCH_UP_SECONDS = 120.0
REBUILT = ("popularity", "sessions")
# A mistake in a projection's code, as far as one event is concerned.
MISTAKE = """
CREATE FUNCTION mistake() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a mistake in the code of a projection';
END $$;
CREATE TRIGGER mistake BEFORE INSERT ON popularity_views FOR EACH ROW WHEN (NEW.channel = 'poison')
EXECUTE FUNCTION mistake();
"""
SET_ASIDE = "SELECT count(*) FROM dead_letters"
MENDED = "DROP FUNCTION mistake() CASCADE"


@contextmanager
def poison(stack: Stack) -> Iterator[None]:
    """Record an event that the code of a projection cannot take; the code is mended at the end."""
    stack.sql(MISTAKE)
    event = {"event_id": str(uuid4()), "type": "probe_viewed", "occurred_at": "2026-01-01T00:00:00Z", "product": "fog",
             "channel": "poison", "probe": "probe_1", "data": {"found": True}}  # fmt: skip
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(f"{stack.servers[0].url}/v1/events", json.dumps(event).encode(), headers), timeout=10):
        pass
    yield
    if stack.sql(SET_ASIDE).strip() != "1":
        stack.complain("the event that cannot be folded was not set aside by itself")
    stack.sql(MENDED)
    _run(stack, "projections", "retry", "popularity")


@contextmanager
def sequence_behind(stack: Stack) -> Iterator[None]:
    """Set the sequence of positions back, as a restore of tables without it does."""
    stack.sql("SELECT setval('event_position', 1)")
    yield
    stack.sql("SELECT setval('event_position', (SELECT max(position) + 1000 FROM event_log))")


@contextmanager
def far_behind(_stack: Stack) -> Iterator[None]:
    yield


@contextmanager
def kill_in_a_rebuild(stack: Stack) -> Iterator[None]:
    """Kill PostgreSQL while projections are rebuilt, and have the rebuild gone on with until it is done."""
    with _command(stack, "projections", "rebuild", *REBUILT) as rebuild:
        stack.run_for(1.5)
        if rebuild.poll() is not None:
            stack.complain("the rebuild was over before PostgreSQL was killed")
        stack.kill_postgres()
        yield
        stack.wait(lambda: stack.postgres.pid is not None, 60)
        _ends(stack, rebuild)
    _run(stack, "projections", "rebuild", *REBUILT)
    _run(stack, "verify", *REBUILT)


def _run(stack: Stack, *words: str) -> None:
    """Run a command of usage-service to its end, and complain when it fails."""
    with _command(stack, *words) as command:
        if not _ends(stack, command) or command.poll():
            stack.complain(f"`usage-service {' '.join(words)}` failed")


def _ends(stack: Stack, command: subprocess.Popen[bytes]) -> bool:
    return stack.wait(lambda: command.poll() is not None, CATCH_UP_SECONDS)


@contextmanager
def _command(stack: Stack, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    environ = BENCH_ENVIRONMENT | {"DATABASE_URL": stack.database}
    with (stack.directory / "commands.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "usage_service", *words], env=environ, cwd=ROOT, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


FAULTS = (
    Fault("poison", "an event comes that a projection's code cannot take; the code is mended later", poison,
          hold=SHORT_SECONDS),
    Fault("sequence", "the sequence of positions is behind the log", sequence_behind),
    Fault(
        "behind", f"the projections begin {BEHIND:,} events behind the log", far_behind, hold=0,
        back_within=CATCH_UP_SECONDS, ground=Ground(behind=BEHIND),
    ),
    Fault(
        "rebuild", "PostgreSQL is killed while two projections are rebuilt", kill_in_a_rebuild, hold=0,
        ground=Ground(behind=BEHIND_IN_A_REBUILD), back_within=CATCH_UP_SECONDS,
    ),
)  # fmt: skip
