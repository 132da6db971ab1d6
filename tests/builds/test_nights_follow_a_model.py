"""Nights, their jobs and builds, whatever is called in whatever order, by stale workers too, by a clock that jumps.

Each request for a build ends exactly once; no build waits for a job that is over; the bytes of each attempt are counted
once; a night of a channel is under way at a time, and ends when no job of it is left.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
import pytest

from tests.support.builders import put_in_catalogue
from tests.support.night_calls import STORE, drain
from tests.support.servers import Connection, rounds
from usage_service.shared.postgres import connect

WALKS, STEPS = rounds(2), 100
START = datetime(2026, 11, 24, 20, tzinfo=UTC)
PROBES = [f"{letter}_ms" for letter in "abcdefghijkl"]
UNDER_WAY = ("queued", "running")
STALE, CANCELLED = "UB001", "UB003"
Answer: TypeAlias = Any  # records, or the code of an error
Row: TypeAlias = "dict[str, Any]"
Claim: TypeAlias = "tuple[UUID, int]"
Result = TypeVar("Result")
# What is done, on what that needs, and how often.
DEEDS = {
    "queue_job": ("nights", 6), "end_planning": ("nights", 2), "fail_planning": ("nights", 0.3),
    "hand_back_night": ("nights", 0.3), "heartbeat": ("jobs", 1), "end_builds": ("jobs", 4), "fail_member": ("jobs", 1),
    "end_job": ("jobs", 1), "fail_job": ("jobs", 4), "hand_back_job": ("jobs", 0.5), "complete": ("builds", 1),
    "fail": ("builds", 1), "ask_for_night": (None, 2), "claim_night": (None, 2), "claim_jobs": (None, 3),
    "ask": (None, 2), "claim_build": (None, 1), "expire": (None, 1), "cancel_build": (None, 1), "retry": (None, 1),
    "cancel_night": (None, 0.2), "end_nights": (None, 1), "time_passes": (None, 0.7),
}  # fmt: skip
TABLES = {
    "SELECT * FROM nights": "night_id",
    "SELECT * FROM shared_jobs": "job_id",
    "SELECT * FROM builds": "build_id",
}
# Builds by how often they were asked for, ended and started, as their events tell.
STORIES = """
SELECT b.probe, b.state, b.attempt, s.*
FROM builds b JOIN (
    SELECT (data ->> 'build_id')::uuid AS build_id, count(*) FILTER (WHERE type = 'build_requested') AS requests,
           count(*) FILTER (WHERE type IN ('build_succeeded', 'build_found_no_data', 'build_cancelled')
                            OR type = 'build_failed' AND (data ->> 'final')::boolean) AS ends,
           count(*) FILTER (WHERE type = 'build_started') AS starts
    FROM event_log WHERE type LIKE 'build%' GROUP BY 1
) s USING (build_id)
WHERE s.ends <> s.requests - (b.state IN ('queued', 'running'))::integer OR s.starts <> b.attempt
"""


class Seen(NamedTuple):
    """All nights, jobs and builds at one moment, by their ids."""

    nights: dict[UUID, Row]
    jobs: dict[UUID, Row]
    builds: dict[UUID, Row]

    def members(self, job_id: UUID) -> list[UUID]:
        """Return the builds that a job is still to end."""
        mine = [b for b in self.builds.values() if b["shared_job"] == job_id and b["state"] == "queued"]
        order: list[UUID] = self.jobs[job_id]["builds"]
        return sorted((b["build_id"] for b in mine), key=order.index)

    def jobs_left(self, night_id: UUID) -> bool:
        """Return whether a night has a job that is not over."""
        return any(j["night_id"] == night_id and j["state"] in UNDER_WAY for j in self.jobs.values())


def is_held(kind: str, row: Row, attempt: int) -> bool:
    """Return whether this attempt holds a night, a job or a build."""
    is_claimed = row["worker"] is not None if kind == "nights" else row["state"] == "running"
    return bool(row["attempt"] == attempt and is_claimed)


class Nights:
    """Calls of the functions within a transaction that is rolled back; what they change is compared with before."""

    def __init__(self, url: str, seed: int) -> None:
        self.chance = random.Random(seed)
        self.runner = asyncio.Runner()
        self.connection: Connection = self.do(connect(url, application="tests"))
        self.transaction = self.connection.transaction()
        self.do(self.transaction.start())
        self.do(put_in_catalogue(self.connection, *PROBES))
        self.now = START
        self.claims: dict[str, list[Claim]] = {"nights": [], "jobs": [], "builds": []}
        self.begun: dict[UUID, list[UUID]] = {}
        self.days: Counter[date] = Counter()
        self.seen = self.look()

    def do(self, work: Coroutine[object, object, Result]) -> Result:
        """Run the coroutine to its end."""
        return self.runner.run(work)

    def look(self) -> Seen:
        """Return what there is."""

        async def read() -> Seen:
            tables = [(key, await self.connection.fetch(all_rows)) for all_rows, key in TABLES.items()]
            return Seen(*({row[key]: dict(row) for row in rows} for key, rows in tables))

        return self.do(read())

    def ask_database(self, statement: str, *values: object, rows_of: UUID | None = None) -> Answer:
        """Return the answer at a time later than everything before, or the error's code; keep what was there before."""
        self.now += timedelta(seconds=1)
        self.before = self.seen

        async def call() -> object:
            await self.connection.execute("SELECT set_config('usage.now', $1, false)", self.now.isoformat())
            try:
                async with self.connection.transaction():
                    if rows_of:
                        await self.connection.execute(STORE, rows_of)
                    return await self.connection.fetch(statement, *values)
            except asyncpg.PostgresError as error:
                return error.sqlstate

        answer = self.do(call())
        self.seen = self.look()
        return answer

    def count_bytes(self, read: int | None = None) -> None:
        """Expect the bytes of each attempt that has ended: those it said last, or those `read` where it succeeded."""
        for kind in ("jobs", "builds"):
            for key, was in getattr(self.before, kind).items():
                row = getattr(self.seen, kind)[key]
                if was["state"] == "running" and (row["state"], row["attempt"]) != ("running", was["attempt"]):
                    self.days[self.now.date()] += (was["bytes"] or 0) if read is None else read

    def held(self, kind: str, statement: str, *values: object) -> tuple[Row, Answer] | None:
        """Call a function for one of all claims ever made; return what it held, or None when it was rightly refused."""
        key, attempt = self.claim_of(kind)
        was = getattr(self.seen, kind)[key]
        holds = is_held(kind, was, attempt)
        answer = self.ask_database(statement, key, attempt, *values)
        if holds:
            return was, answer
        ended = was["attempt"] == attempt and was["state"] in ("cancelled", "over")
        assert answer == (CANCELLED if ended else STALE)
        assert self.seen == self.before
        return None

    def step(self) -> None:
        """Take one of all steps, where there is something to take it with."""
        is_honest = self.chance.random() < 0.9  # else a claim may be stale
        able = {
            deed: weight
            for deed, (kind, weight) in DEEDS.items()
            if kind is None or (self.holding(kind) if is_honest else self.claims[kind])
        }
        [deed] = self.chance.choices(list(able), list(able.values()))
        getattr(self, deed)()
        self.what_a_job_reads_is_its_own_and_never_changes_once_it_was_begun()

    def holding(self, kind: str) -> list[Claim]:
        """Return the claims that hold what they claimed."""
        there = getattr(self.seen, kind)
        return [claim for claim in self.claims[kind] if is_held(kind, there[claim[0]], claim[1])]

    def claim_of(self, kind: str) -> Claim:
        """Return one of all claims ever made, mostly one that holds."""
        holding = self.holding(kind)
        return self.chance.choice(holding if holding and self.chance.random() < 0.9 else self.claims[kind])

    def time_passes(self) -> None:
        self.now += timedelta(hours=self.chance.choice([0, 0, 2, 14]), seconds=self.chance.randint(0, 40))

    # --- nights

    def ask_for_night(self) -> None:
        channel = self.chance.choice(["nightly", "beta"])
        probes = self.chance.choices(PROBES, k=self.chance.randint(1, 12))
        [answer] = self.ask_database("SELECT * FROM request_night('fog', $1, $2, NULL, NULL, 'me')", channel, probes)
        mine = [n for n in self.before.nights.values() if n["channel"] == channel and n["state"] != "over"]
        assert answer["is_new"] == (not mine)
        assert answer["night_id"] in self.seen.nights
        assert not mine or answer["night_id"] == mine[0]["night_id"]

    def claim_night(self) -> None:
        lease = timedelta(seconds=self.chance.randint(5, 60))
        answer = self.ask_database("SELECT * FROM claim_night('w', $1)", lease)
        waits = [
            n for n in self.before.nights.values()
            if n["state"] == "planning" and n["not_before"] <= self.now and n["attempt"] < n["max_attempts"]
            and (n["lease_until"] is None or n["lease_until"] < self.now)
        ]  # fmt: skip
        assert len(answer) == min(1, len(waits))
        self.claims["nights"] += [(row["night_id"], row["attempt"]) for row in answer]

    def queue_job(self) -> None:
        probes = self.chance.sample(PROBES, self.chance.randint(1, 8))
        read = [10] * len(probes)
        found = self.held("nights", "SELECT queue_shared_job($1, $2, $3, $4, 50)", probes, read)
        if found is None:
            return
        night, [[job_id]] = found
        under_way = {
            b["probe"]
            for b in self.before.builds.values()
            if b["state"] in UNDER_WAY and b["channel"] == night["channel"]
        }
        new = self.seen.builds.keys() - self.before.builds.keys()
        assert {self.seen.builds[key]["probe"] for key in new} <= set(probes) - under_way
        assert (job_id is None) == (not new)
        if job_id is not None:
            assert set(self.seen.jobs[job_id]["builds"]) == new == set(self.seen.members(job_id))

    def end_planning(self) -> None:
        left = self.chance.sample(PROBES, self.chance.randint(0, 3))
        found = self.held("nights", "SELECT complete_planning($1, $2, $3, $4)", left, [99] * len(left))
        assert found is None or self.seen.nights[found[0]["night_id"]]["state"] == "running"

    def fail_planning(self) -> None:
        again = self.chance.choice([timedelta(0), timedelta(seconds=30), None])
        found = self.held("nights", "SELECT fail_planning($1, $2, 'x', 'y', $3)", again)
        if found:
            is_over = again is None or found[0]["attempt"] == found[0]["max_attempts"]
            assert self.seen.nights[found[0]["night_id"]]["state"] == ("running" if is_over else "planning")

    def hand_back_night(self) -> None:
        self.held("nights", "SELECT hand_back_night($1, $2)")

    def cancel_night(self) -> None:
        if not self.seen.nights:
            return
        night_id = self.chance.choice(list(self.seen.nights))
        [[state]] = self.ask_database("SELECT cancel_night($1, 'me')", night_id)
        assert state == self.before.nights[night_id]["state"]
        self.count_bytes()
        assert not self.seen.jobs_left(night_id)
        for key, was in self.before.builds.items():
            of_it = was["shared_job"] and self.before.jobs[was["shared_job"]]["night_id"] == night_id
            job_is_over = of_it and self.before.jobs[was["shared_job"]]["state"] not in UNDER_WAY
            stops = state != "over" and of_it and not job_is_over and was["state"] == "queued" and was["prefetched"]
            assert self.seen.builds[key]["state"] == ("cancelled" if stops else was["state"])

    def end_nights(self) -> None:
        [[number]] = self.ask_database("SELECT end_nights()")
        done = [key for key in self.before.nights if self.is_done(self.before, key)]
        assert number == len(done)
        assert all(self.seen.nights[key]["state"] == "over" for key in done)

    def is_done(self, seen: Seen, night_id: UUID) -> bool:
        """Return whether a night was planned, or cannot be any more, and has no job left."""
        night = seen.nights[night_id]
        lost = night["worker"] is not None and night["lease_until"] < self.now
        is_planned = night["state"] == "running" or (lost and night["attempt"] == night["max_attempts"])
        return is_planned and night["state"] != "over" and not seen.jobs_left(night_id)

    # --- shared jobs

    def claim_jobs(self) -> None:
        most, lease = self.chance.randint(1, 3), timedelta(seconds=self.chance.randint(5, 60))
        answer = self.ask_database("SELECT * FROM claim_shared_jobs('w', $1, $2)", lease, most)
        waits = [j for j in self.before.jobs.values() if j["state"] == "queued" and j["not_before"] <= self.now]
        waits = sorted(waits, key=lambda job: (job["queued_at"], job["job_id"].bytes))[:most]
        given = {row["job_id"] for row in answer}
        for job in waits:
            waited_for = {b for b in self.before.members(job["job_id"]) if not self.before.builds[b]["prefetched"]}
            members = self.before.members(job["job_id"])
            if job["attempt"] == 0:  # what somebody waits for is built by itself
                members = [build for build in members if build not in waited_for]
                assert all(self.seen.builds[build]["shared_job"] is None for build in waited_for)
            assert (job["job_id"] in given) == bool(members)
            after = self.seen.jobs[job["job_id"]]
            assert after["state"] == ("running" if members else "done")
            if members:
                assert after["builds"] == self.begun.setdefault(job["job_id"], members)
        assert given <= {job["job_id"] for job in waits}
        self.claims["jobs"] += [(row["job_id"], row["attempt"]) for row in answer]

    def heartbeat(self) -> None:
        read = self.chance.choice([None, 10**6, 1])
        self.held("jobs", "SELECT heartbeat_shared_job($1, $2, '20 s', 'reading', 50, $3)", read)

    def end_builds(self) -> None:
        """End builds that a job has, or once had; with rows or without."""
        job_id, attempt = self.claim_of("jobs")
        build = self.chance.choice(self.seen.members(job_id) or self.seen.jobs[job_id]["builds"])
        has_rows = self.chance.choice([False, True])
        job, was = self.seen.jobs[job_id], self.seen.builds[build]
        statement = (
            "SELECT complete_shared_build($1, $2, $3, 7)"
            if has_rows
            else "SELECT complete_shared_builds($1, $2, $3, 7)"
        )
        asked = build if has_rows else [build]
        has_them = has_rows and self.do(
            self.connection.fetchval("SELECT count(*) FROM probe_rows WHERE built_by = $1", build)
        )
        if has_them:  # ended before: the rows themselves are refused
            return
        answer = self.ask_database(statement, job_id, attempt, asked, rows_of=build if has_rows else None)
        holds = (job["attempt"], job["state"]) == (attempt, "running")
        is_its = was["shared_job"] == job_id and was["state"] == "queued"
        if holds and is_its:
            assert self.seen.builds[build]["state"] == ("succeeded" if has_rows else "no_data")
            return
        assert isinstance(answer, str) == (has_rows or not holds)
        assert self.seen == self.before

    def fail_member(self) -> None:
        job_id, _attempt = self.claim_of("jobs")
        build = self.chance.choice(self.seen.jobs[job_id]["builds"])
        found = self.held("jobs", "SELECT fail_shared_build($1, $2, $3, 'x', 'y')", build)
        if found:
            was = self.before.builds[build]
            is_its = was["shared_job"] == found[0]["job_id"] and was["state"] == "queued"
            assert self.seen.builds[build]["state"] == ("failed" if is_its else was["state"])

    def end_job(self) -> None:
        read = self.chance.randint(0, 10**12)
        if self.held("jobs", "SELECT complete_shared_job($1, $2, $3)", read):
            self.count_bytes(read)

    def fail_job(self) -> None:
        again = self.chance.choice([timedelta(0), timedelta(seconds=30), None, None])
        found = self.held("jobs", "SELECT fail_shared_job($1, $2, 'x', 'y', $3)", again)
        if found:
            self.given_up(found[0], again)

    def given_up(self, job: Row, again: timedelta | None) -> None:
        """Expect that a job waits again, or was split into what it had left, or that its only build failed."""
        self.count_bytes()
        members, state = self.before.members(job["job_id"]), self.seen.jobs[job["job_id"]]["state"]
        halves = [j for j in self.seen.jobs.values() if j["split_from"] == job["job_id"]]
        if again is not None and job["attempt"] < job["max_attempts"]:
            assert (state, halves) == ("queued", [])
        elif members and len(job["builds"]) > 1:
            assert state == "split"
            assert len(halves) == min(2, len(members))
            assert sorted(b for half in halves for b in half["builds"]) == sorted(members)
        else:
            assert (state, halves) == ("failed", [])
            assert all(self.seen.builds[build]["state"] == "failed" for build in members)

    def hand_back_job(self) -> None:
        if self.held("jobs", "SELECT hand_back_shared_job($1, $2)"):
            self.count_bytes()

    def expire(self) -> None:
        lost = [
            j
            for j in self.seen.jobs.values()
            if j["lease_until"] and j["lease_until"] < self.now + timedelta(seconds=1)
        ]
        [[found]] = self.ask_database("SELECT expire_shared_lease()")
        assert found == bool(lost)
        if found:
            self.given_up(min(lost, key=lambda job: job["lease_until"]), timedelta(0))
        self.ask_database("SELECT expire_leases()")
        self.count_bytes()

    # --- builds by themselves

    def ask(self) -> None:
        """Ask for a probe, mostly one that a job is to read."""
        channel, probe = self.chance.choice(["nightly", "beta"]), self.chance.choice(PROBES)
        waiting = [b for b in self.seen.builds.values() if b["state"] == "queued" and b["shared_job"]]
        if waiting and self.chance.random() < 0.8:
            build = self.chance.choice(waiting)
            channel, probe = build["channel"], build["probe"]
        prefetch = self.chance.choice([False, False, True])
        self.ask_database("SELECT * FROM request_build('fog', $1, $2, 'me', $3)", channel, probe, prefetch)

    def claim_build(self) -> None:
        answer = self.ask_database("SELECT * FROM claim_build('w', '30 s')")
        ready = []
        for build in self.before.builds.values():
            job = self.before.jobs[build["shared_job"]]["state"] if build["shared_job"] else None
            waits_for_job = job == "running" or (job == "queued" and build["prefetched"])
            if build["state"] == "queued" and build["not_before"] <= self.now and not waits_for_job:
                ready.append((build["prefetched"], build["not_before"]))
        assert [(row["prefetched"], row["not_before"]) for row in answer] == sorted(ready)[:1]
        assert all(row["shared_job"] is None for row in answer)
        self.claims["builds"] += [(row["build_id"], row["attempt"]) for row in answer]

    def complete(self) -> None:
        read = self.chance.randint(0, 10**12)
        if self.held("builds", "SELECT complete_build($1, $2, $3)", read):
            self.count_bytes(read)

    def fail(self) -> None:
        again = self.chance.choice([timedelta(0), timedelta(seconds=30), None])
        if self.held("builds", "SELECT fail_build($1, $2, 'x', 'y', $3)", again):
            self.count_bytes()

    def cancel_build(self) -> None:
        if not self.seen.builds:
            return
        build = self.chance.choice(list(self.seen.builds))
        self.ask_database("SELECT cancel_build($1, 'me')", build)
        self.count_bytes()
        assert self.seen.jobs == self.before.jobs  # cancelling one build never stops a shared job

    def retry(self) -> None:
        if not self.seen.builds:
            return
        build = self.chance.choice(list(self.seen.builds))
        self.ask_database("SELECT retry_build($1, 'me')", build)

    # --- what always holds

    def tell_the_truth(self) -> None:
        """Compare all that was told and counted so far with what was done."""
        self.each_request_ends_once()
        self.the_bytes_of_each_attempt_are_counted_once()
        self.one_night_is_under_way_a_channel_and_what_is_over_is_over()

    def each_request_ends_once(self) -> None:
        assert self.do(self.connection.fetch(STORIES)) == []

    def the_bytes_of_each_attempt_are_counted_once(self) -> None:
        counted = self.do(self.connection.fetch("SELECT day, bytes FROM warehouse_days"))
        assert {row["day"]: row["bytes"] for row in counted} == {day: read for day, read in self.days.items() if read}

    def one_night_is_under_way_a_channel_and_what_is_over_is_over(self) -> None:
        channels = [night["channel"] for night in self.seen.nights.values() if night["state"] != "over"]
        assert len(channels) == len(set(channels))
        over = [key for key, night in self.seen.nights.items() if night["state"] == "over"]
        assert not any(self.seen.jobs_left(key) for key in over)
        told = self.do(self.connection.fetchval("SELECT count(*) FROM event_log WHERE type = 'night_ended'"))
        assert told == len(over)

    def what_a_job_reads_is_its_own_and_never_changes_once_it_was_begun(self) -> None:
        for key, job in self.seen.jobs.items():
            assert job["builds"] == self.begun.get(key, job["builds"])
            assert set(self.seen.members(key)) <= set(job["builds"])

    def end(self) -> None:
        """Let an honest builder bring all of it to its end."""
        self.tell_the_truth()
        self.do(drain(self.connection, self.now))
        self.each_request_ends_once()

    def close(self) -> None:
        self.do(self.transaction.rollback())
        self.do(self.connection.close())
        self.runner.close()


@pytest.mark.timeout(400)
def test_nights_follow_the_model(database_url: str) -> None:
    for seed in range(WALKS):
        nights = Nights(database_url, seed)
        try:
            for number in range(STEPS):
                nights.step()
                if number % 20 == 0:
                    nights.tell_the_truth()
            nights.end()
        except AssertionError as error:
            error.add_note(f"in the walk of seed {seed}")
            raise
        finally:
            nights.close()
