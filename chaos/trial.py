"""A trial: a fault under load, and what it cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import asyncpg

from chaos.alerts import Fired, first_alerts
from chaos.faults.fault import Fault
from chaos.load import Sent
from chaos.observer import Observer, observing
from chaos.stack import Load, Stack, loading, observer_of, open_stack
from tests.support.builder_process import ROWS
from tests.support.builders import WRONG_BUILDS
from tests.support.promtool import PROMTOOL

LEAD_SECONDS, TAIL_SECONDS = 3.0, 3.0
READY_SECONDS, PATIENCE_SECONDS, DRAIN_SECONDS, SETTLE_SECONDS = 60.0, 60.0, 120.0, 120.0
STILL_SECONDS = 1.0  # a pause in the acknowledgements that counts as not being back
FRESH_SECONDS = 0.3
KNOWN_SECONDS = 5.0  # within which a heartbeat has to know that nothing is recorded
SILENT_SECONDS = KNOWN_SECONDS + 3.0  # a silence that it has to know of; with what a request may take
ALERTED_SECONDS = (
    KNOWN_SECONDS + 23.0
)  # a silence of which an alert has to tell: 5 s of failures for 15 s, and a scrape
OVER = "SELECT NOT EXISTS (SELECT FROM builds WHERE finished_at IS NULL)"
FOLDED = "SELECT bool_and(behind = 0) FROM projection_status WHERE stage = 'live'"
COUNTED = """
SELECT (SELECT coalesce(sum(found + missing), 0) FROM popularity_views WHERE days = 1)
     - (SELECT count(*) FROM event_log WHERE type = 'probe_viewed')
"""
SAID_TO_BE_THERE = "SELECT count(*) FROM event_log WHERE position <= $1"
NOT_ENDED_WELL = "SELECT probe, state, error FROM builds WHERE state NOT IN ('succeeded', 'no_data')"
UNSEEN = "events appeared below a position that a reader had seen already, or are gone"
LOGGED = "SELECT event_id::text, position FROM event_log WHERE position > $1"


class Outcome(NamedTuple):
    """Costs of a fault; seconds unless said otherwise, None for never or not needed."""

    name: str
    says: str
    acknowledged: int
    lost: int
    twice: int
    silence: float
    heartbeat: float | None
    alert: Fired | None
    back: float | None
    reads: tuple[int, int]  # answered, asked
    builds: tuple[int, int]  # ended well, asked for
    complaints: tuple[str, ...]

    @property
    def well(self) -> bool:
        """Return whether nothing went wrong."""
        return not (self.lost or self.twice or self.complaints) and self.back is not None


class Rates(NamedTuple):
    """The load: requests a second of one event, and of a hundred."""

    singles: float
    batches: float


class Moments(NamedTuple):
    """When things were, by the clock of all processes."""

    load: float
    began: float
    ended: float
    over: float


def try_fault(fault: Fault, template: Path, directory: Path, rates: Rates, hold: float | None = None) -> Outcome:
    """Do a fault under load and judge what has become of everything."""
    with open_stack(template, directory, fault.ground) as stack:
        observer = observer_of(stack)
        with observing(observer), loading(stack, rates.singles, rates.batches, fault.name) as load:
            moments = _go_through(fault, stack, observer, load, fault.hold if hold is None else min(hold, fault.hold))
            observer.asks_for_builds = False
            _settle(stack)
        return _judge(fault, stack, observer, load.sent(), moments)


def _go_through(fault: Fault, stack: Stack, observer: Observer, load: Load, hold: float) -> Moments:
    if not stack.wait(
        lambda: load.told.requests > 0 and (bool(fault.ground.behind) or observer.well(0)), READY_SECONDS
    ):
        stack.complain("not everything was well at the beginning")
    start = time.monotonic()
    stack.run_for(LEAD_SECONDS)
    began = time.monotonic()
    with fault.strike(stack):
        stack.run_for(hold)
    ended = time.monotonic()

    def back() -> bool:
        now = time.monotonic()
        return load.told.last > max(ended, now - FRESH_SECONDS) and observer.well(max(ended, now - 3))

    if not stack.wait(back, fault.back_within + PATIENCE_SECONDS):
        stack.complain("it did not come back")
    stack.run_for(TAIL_SECONDS)
    over = time.monotonic()
    load.stop()
    if not stack.wait(lambda: load.over, DRAIN_SECONDS):
        stack.complain("what was sent was not acknowledged in the end")
    return Moments(start, began, ended, over)


def _settle(stack: Stack) -> None:
    """Wait until all builds are over and all is folded."""

    async def settled() -> None:
        connection = await asyncpg.connect(stack.database)
        try:
            for question, complaint in ((OVER, "builds did not end"), (FOLDED, "projections did not catch up")):
                until = time.monotonic() + SETTLE_SECONDS
                while not await connection.fetchval(question):
                    if time.monotonic() > until:
                        stack.complain(complaint)
                        break
                    stack.keep_up()
                    await asyncio.sleep(0.1)
        finally:
            await connection.close()

    asyncio.run(settled())


def _judge(fault: Fault, stack: Stack, observer: Observer, sent: Sent, moments: Moments) -> Outcome:
    lost, twice, builds = asyncio.run(_compare(fault, stack, observer, sent))
    for text in sent.refused[:3]:
        stack.complain(f"a client was told to give an event up: {text}")
    silence = _longest_silence(sent, moments)
    heartbeat = _heartbeat_knew(observer, moments.began, moments.over)
    alert = next((Fired(name, at) for name, at in _alerts(observer, moments)), None)
    back = _back(sent, observer, moments)
    if back is not None and back > fault.back_within:
        stack.complain(f"back only after {back:.1f} s, not within {fault.back_within:.0f}")
    knew = _heartbeat_knew(observer, silence.since, moments.over)
    if silence.seconds > SILENT_SECONDS and (knew is None or knew > KNOWN_SECONDS):
        stack.complain(f"the heartbeat did not know within {KNOWN_SECONDS:.0f} s that nothing is recorded")
    if silence.seconds > ALERTED_SECONDS and alert is None and PROMTOOL is not None:
        stack.complain("no alert fired")
    reads = [
        beat.status for beat in observer.reads if moments.began <= beat.at <= max(moments.ended, moments.began + 1)
    ]
    return Outcome(
        fault.name, fault.says, len(sent.positions), lost, twice, silence.seconds, heartbeat, alert, back,
        (sum(status == 200 for status in reads), len(reads)), builds, tuple(stack.complaints),
    )  # fmt: skip


async def _compare(fault: Fault, stack: Stack, observer: Observer, sent: Sent) -> tuple[int, int, tuple[int, int]]:
    """Return how many acknowledged events are not where they were said to be, how many are twice, and the builds."""
    connection = await asyncpg.connect(stack.database)
    try:
        rows = await connection.fetch(LOGGED, fault.ground.behind)
        logged = {row["event_id"]: row["position"] for row in rows}
        lost = sum(logged.get(event_id) != position for event_id, position in sent.positions.items())
        twice = len(rows) - len(logged) + len(sent.moved)
        follower = observer.follower
        if await connection.fetchval(SAID_TO_BE_THERE, follower.position) != follower.events:
            stack.complain(UNSEEN)
        if counted := await connection.fetchval(COUNTED):
            stack.complain(f"popularity counts {counted:+} views of what the log has")
        if fault.ground.made_up_builds:
            wrong = await connection.fetch(WRONG_BUILDS, ROWS)
        else:
            wrong = await connection.fetch(NOT_ENDED_WELL)
        for build in wrong[:3]:
            stack.complain(f"a build is wrong: {dict(build)}")
        asked = await connection.fetchval("SELECT count(*) FROM builds")
    finally:
        await connection.close()
    return lost, twice, (asked - len(wrong), asked)


class Silence(NamedTuple):
    """A time without an acknowledgement."""

    seconds: float
    since: float


def _longest_silence(sent: Sent, moments: Moments) -> Silence:
    """Return the longest time from one acknowledgement to the next, from the fault on."""
    times = [acknowledged.at for acknowledged in sent.acknowledged if acknowledged.at <= moments.over]
    before = max((at for at in times if at < moments.began), default=moments.began)
    during = [before, *(at for at in times if at >= moments.began), moments.over]
    return max(Silence(later - at, at) for at, later in pairwise(during))


def _heartbeat_knew(observer: Observer, since: float, until: float) -> float | None:
    """Return after how long some heartbeat was not 200."""
    bad = (beat.at for beat in observer.heartbeats if since <= beat.at <= until and beat.status != 200)
    first = next(bad, None)
    return None if first is None else first - since


def _alerts(observer: Observer, moments: Moments) -> Sequence[tuple[str, int]]:
    """Return the alerts that fired after the fault, each with the seconds since."""
    lead = moments.began - moments.load
    fired = first_alerts(observer.scrapes, moments.load, moments.over)
    return [(alert, round(second - lead)) for alert, second in fired if second >= lead]


def _back(sent: Sent, observer: Observer, moments: Moments) -> float | None:
    """Return after how long requests were acknowledged without a pause, and all heartbeats well."""
    times = [moments.ended, *(a.at for a in sent.acknowledged if moments.ended <= a.at <= moments.over), moments.over]
    steady = max((later for at, later in pairwise(times) if later - at > STILL_SECONDS), default=moments.ended)
    first = next((at for at in times[1:-1]), None)
    bad = [beat.at for beat in observer.heartbeats if moments.ended <= beat.at <= moments.over and beat.status != 200]
    well = min(
        (beat.at for beat in observer.heartbeats if beat.status == 200 and beat.at > max(bad, default=moments.ended)),
        default=None,
    )
    if first is None or well is None or steady == moments.over:
        return None
    return max(first, steady, well if bad else first) - moments.ended
