"""The state machine of builds against a model of it: several workers, claims long stale, a clock that jumps.

Whatever is called in whatever order: states, attempts, who comes first, what is refused and how, bytes a day, and
exactly the events that tell of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.support.build_model import BUILDS, EVENTS, STORE, Build
from tests.support.builders import put_in_catalogue
from tests.support.servers import Connection, rounds
from usage_service.shared.postgres import connect

EXAMPLES, STEPS = rounds(8), 40
START = datetime(2026, 11, 24, 20, tzinfo=UTC)
PROBES = ["a_ms", "b_ms", "c_ms"]
UNDER_WAY, OVER_WELL = ("queued", "running"), ("succeeded", "no_data")
STALE, CANCELLED, THERE = "UB001", "UB003", "23505"
A_DAY = 10**13
OF_WORKERS = ["heartbeat", "complete", "fail", "hand_back", "account"]
DEEDS = ["request", "request", "claim", "claim", *OF_WORKERS, "heartbeat", "expire", "cancel", "retry", "time_passes"]
Answer: TypeAlias = Any  # a record, None, or the code of an error
Result = TypeVar("Result")


class Builds(RuleBasedStateMachine):
    """Calls of the functions and of the model alike, all within a transaction that is rolled back."""

    url: ClassVar[str]

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.connection: Connection = self.do(connect(self.url, application="tests"))
        self.transaction = self.connection.transaction()
        self.do(self.transaction.start())
        self.do(put_in_catalogue(self.connection, *PROBES))
        self.now = START
        self.builds: dict[UUID, Build] = {}
        self.claims: list[tuple[UUID, int]] = []
        self.days: Counter[date] = Counter()
        self.jobs: dict[tuple[UUID, str], tuple[date, int]] = {}
        self.answer: Answer = None
        self.events: list[tuple[str, str, int | None]] = []
        self.rows: dict[str, tuple[UUID, int]] = {}
        self.stored = 0

    def do(self, work: Coroutine[object, object, Result]) -> Result:
        """Run the coroutine to its end."""
        return self.runner.run(work)

    def ask(self, statement: str, *values: object, store: tuple[UUID, int] | None = None) -> Answer:
        """Return the answer at the model's time, which is later than everything before; or the error's code."""
        self.now += timedelta(seconds=1)

        async def call() -> object:
            await self.connection.execute("SELECT set_config('usage.now', $1, false)", self.now.isoformat())
            try:
                async with self.connection.transaction():
                    if store:
                        await self.connection.execute(STORE, *store)
                    return await self.connection.fetchrow(statement, *values)
            except asyncpg.PostgresError as error:
                return error.sqlstate

        return self.do(call())

    def see(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows as tuples."""
        return [tuple(row) for row in self.do(self.connection.fetch(statement, *values))]

    @rule(data=st.data(), deed=st.sampled_from(DEEDS))
    def step(self, data: st.DataObject, deed: str) -> None:
        """Take one of all steps. With a rule for each, Hypothesis leaves some out in each run, and few runs get far."""
        known = {"cancel": self.builds, "retry": self.builds} | dict.fromkeys(OF_WORKERS, self.claims)
        if known.get(deed, [1]):
            getattr(self, deed)(data)

    def time_passes(self, data: st.DataObject) -> None:
        self.now += timedelta(hours=data.draw(st.sampled_from([0, 0, 0, 2])), seconds=data.draw(st.integers(0, 40)))

    def request(self, data: st.DataObject) -> None:
        probe, prefetch = data.draw(st.sampled_from(PROBES)), data.draw(st.booleans())
        answer = self.ask("SELECT * FROM request_build('fog', 'nightly', $1, 'me', $2)", probe, prefetch)
        mine = [build for build in self.builds.values() if build.probe == probe]
        pending = [build for build in mine if build.state in UNDER_WAY]
        midnight = self.now.replace(hour=0, minute=0, second=0)
        fresh = [b for b in mine if b.state in OVER_WELL and b.finished_at and b.finished_at >= midnight]
        if pending:
            assert (answer["outcome"], answer["build_id"]) == ("pending", pending[0].build_id)
            if pending[0].state == "queued" and pending[0].prefetched and not prefetch:
                pending[0].prefetched = False
                pending[0].not_before = max(pending[0].not_before, self.now)
        elif fresh:
            latest = max(fresh, key=lambda build: build.finished_at or START)
            assert (answer["outcome"], answer["build_id"]) == ("fresh", latest.build_id)
        else:
            assert answer["outcome"] == "created"
            build = Build(answer["build_id"], probe, prefetch, self.now)
            self.builds[build.build_id] = build
            self.tells("build_requested", build)

    def claim(self, data: st.DataObject) -> None:
        worker, lease = data.draw(st.sampled_from(["w1", "w2", "w3"])), data.draw(st.integers(5, 60))
        answer = self.ask("SELECT * FROM claim_build($1, $2)", worker, timedelta(seconds=lease))
        ready = [b for b in self.builds.values() if b.state == "queued" and b.not_before <= self.now]
        if not ready:
            assert answer is None
            return
        build = self.builds[answer["build_id"]]
        assert build in ready
        assert build.key() == min(other.key() for other in ready)
        build.state, build.bytes = "running", None
        build.attempt += 1
        build.lease_until = self.now + timedelta(seconds=lease)
        assert (answer["attempt"], answer["worker"]) == (build.attempt, worker)
        self.claims.append((build.build_id, build.attempt))
        self.tells("build_started", build)

    def heartbeat(self, data: st.DataObject) -> None:
        lease, read = timedelta(seconds=20), data.draw(st.sampled_from([10**6, 1, 10**12, 0, None]))
        stage = data.draw(st.sampled_from([None, "aggregating"]))
        build = self.held(data, "SELECT heartbeat_build($1, $2, $3, $4, 50, $5)", lease, stage, read)
        if build:
            build.lease_until = self.now + lease
            build.bytes = build.bytes if read is None else read
            if stage:
                self.tells("build_progressed", build)

    def account(self, data: st.DataObject) -> None:
        """Count a job that is to be begun or adopted, once, if the day's bytes allow it; or one that is over."""
        job, size = data.draw(st.sampled_from(["a", "b"])), data.draw(st.sampled_from([10**12, 10**6, 0]))
        most = data.draw(st.sampled_from([A_DAY, 2 * 10**12, None]))
        read = data.draw(st.sampled_from([None, 10**6, 10**13]))
        statement = "SELECT account_build_job($1, $2, '20 s', ($1::uuid)::text || $3, $4, $5, $6)"
        build = self.held(data, statement, job, size, read, most)
        if not build:
            return
        build.lease_until = self.now + timedelta(seconds=20)
        known, left = self.jobs.get((build.build_id, job)), self.left(most or 0)
        if most is None or (known is None and size <= left):
            day, before = known or (self.now.date(), 0)
            self.days[day] += size - before
            self.jobs[build.build_id, job] = day, size
        refused = most is not None and known is None and size > left
        assert self.answer[0] == (left if refused else None)
        build.bytes = build.bytes if refused or read is None else read

    def uncounted(self, build: Build, read: int | None) -> int:
        """Return what an attempt says that it read beyond the jobs of the build that are accounted for."""
        counted = sum(size for (build_id, _), (_, size) in self.jobs.items() if build_id == build.build_id)
        return max(0, (read or 0) - counted)

    def left(self, most: int) -> int:
        """Return how many bytes may still be read today, of so many a day."""
        running = sum(self.uncounted(b, b.bytes) for b in self.builds.values() if b.state == "running")
        return max(0, most - self.days[self.now.date()] - running)

    def complete(self, data: st.DataObject) -> None:
        read, found = data.draw(st.integers(0, 10**12)), data.draw(st.booleans())
        self.stored += found
        build = self.held(data, "SELECT complete_build($1, $2, $3)", read, rows_of=self.stored if found else None)
        if build:
            if found:
                self.rows[build.probe] = build.build_id, self.stored
            self.end(build, "succeeded" if found else "no_data", read)
            self.tells("build_succeeded" if found else "build_found_no_data", build)

    def fail(self, data: st.DataObject) -> None:
        again = data.draw(st.sampled_from([timedelta(seconds=30), timedelta(0), timedelta(seconds=1), None]))
        build = self.held(data, "SELECT fail_build($1, $2, 'x', 'y', $3)", again)
        if build:
            self.give_up(build, again)

    def hand_back(self, data: st.DataObject) -> None:
        build = self.held(data, "SELECT hand_back_build($1, $2)")
        if build:
            self.queue(build, self.now)
            build.max_attempts += 1
            self.tells("build_progressed", build)

    def expire(self, data: st.DataObject) -> None:
        [number] = self.ask("SELECT expire_leases()")
        lost = [b for b in self.builds.values() if b.lease_until and b.lease_until < self.now]
        assert number == len(lost)
        for build in sorted(lost, key=lambda build: build.build_id.bytes):
            self.give_up(build, timedelta(0))

    def cancel(self, data: st.DataObject) -> None:
        build = self.builds[data.draw(st.sampled_from(list(self.builds)))]
        [before] = self.ask("SELECT cancel_build($1, 'me')", build.build_id)
        assert before == build.state
        if build.state in UNDER_WAY:
            self.end(build, "cancelled", build.bytes)
            self.tells("build_cancelled", build)

    def retry(self, data: st.DataObject) -> None:
        build = self.builds[data.draw(st.sampled_from(list(self.builds)))]
        busy = any(b.probe == build.probe and b.state in UNDER_WAY for b in self.builds.values())
        [outcome] = self.ask("SELECT retry_build($1, 'me')", build.build_id)
        assert outcome == ("not_failed" if build.state != "failed" else "under_way" if busy else "queued")
        if outcome == "queued":
            build.state, build.finished_at, build.bytes = "queued", None, None
            build.not_before, build.max_attempts = self.now, build.attempt + 5
            self.tells("build_requested", build)

    def held(self, data: st.DataObject, statement: str, *values: object, rows_of: int | None = None) -> Build | None:
        """Call the function for one of all claims ever made; return its build, or None when it was rightly refused."""
        build_id, attempt = data.draw(st.sampled_from(self.claims[::-1]))  # the latest first: it often holds
        store = None if rows_of is None else (build_id, rows_of)
        answer = self.ask(statement, build_id, attempt, *values, store=store)
        build, self.answer = self.builds[build_id], answer
        if build.state == "running" and build.attempt == attempt:
            assert not isinstance(answer, str), answer
            return build
        assert answer == self.refusal(build, attempt, rows_of)
        return None

    def refusal(self, build: Build, attempt: int, rows_of: int | None) -> str:
        """Return the code of the error for a claim that holds its build no more; rows may be refused as duplicates."""
        if rows_of is not None and self.rows.get(build.probe, (None, 0))[0] == build.build_id:
            return THERE
        return CANCELLED if build.state == "cancelled" and build.attempt == attempt else STALE

    def queue(self, build: Build, not_before: datetime) -> None:
        """Queue the build again; the bytes read count for the day."""
        self.count(build, build.bytes)
        build.state, build.lease_until, build.bytes, build.not_before = "queued", None, None, not_before

    def end(self, build: Build, state: str, read: int | None) -> None:
        """End the build; the bytes read count for the day, and stay on the build."""
        self.count(build, read)
        build.state, build.lease_until, build.bytes, build.finished_at = state, None, read, self.now

    def give_up(self, build: Build, again: timedelta | None) -> None:
        """Queue the build once more while attempts are left, else fail it."""
        if again is None or build.attempt == build.max_attempts:
            self.end(build, "failed", build.bytes)
        else:
            self.queue(build, self.now + again)
        self.tells("build_failed", build)

    def count(self, build: Build, read: int | None) -> None:
        """Count bytes for the current day."""
        self.days[self.now.date()] += self.uncounted(build, read)

    def tells(self, kind: str, build: Build) -> None:
        """Expect an event; those of a first request name no attempt."""
        self.events.append((kind, build.probe, build.attempt or (0 if kind == "build_cancelled" else None)))

    @invariant()
    def builds_are_as_modelled(self) -> None:
        assert {row[0]: Build(*row) for row in self.see(BUILDS)} == self.builds
        under_way = [build.probe for build in self.builds.values() if build.state in UNDER_WAY]
        assert len(set(under_way)) == len(under_way)

    @invariant()
    def each_transition_is_one_event(self) -> None:
        assert self.see(EVENTS) == self.events

    @invariant()
    def rows_are_those_of_the_last_build_that_found_any(self) -> None:
        rows = self.see("SELECT probe, built_by, total_users FROM probe_rows")
        assert len(rows) == len(self.rows)
        assert {probe: (built_by, users) for probe, built_by, users in rows} == self.rows

    @invariant()
    def bytes_are_counted_once(self) -> None:
        assert dict(self.see("SELECT day, bytes FROM warehouse_days WHERE bytes > 0")) == dict(+self.days)
        [left] = self.ask("SELECT bytes_left_today($1)", A_DAY)
        assert left == self.left(A_DAY)

    def teardown(self) -> None:
        if hasattr(self, "transaction"):
            self.do(self.transaction.rollback())
            self.do(self.connection.close())
            self.runner.close()


@pytest.mark.timeout(400)  # a counterexample takes its time to be made small
def test_builds_follow_the_model(database_url: str) -> None:
    machine = type("Bound", (Builds,), {"url": database_url})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, suppress_health_check=checks
        ),
    )
