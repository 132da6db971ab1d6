"""A statement is paid for once: a second attempt finds the job of the first, and a stopped build stops its job."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from google.cloud import bigquery

from tests.support.googlesql import TABLES
from tests.support.ping_makers import random_pings
from tests.support.ping_warehouse import warehouse
from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.errors import PermanentWorkError, TransientWorkError, WorkCancelledError
from usage_service.shared.bigquery.jobs import JobOptions, JobRunner, ignore, label, make_client
from usage_service.shared.bigquery.statement import Statement

PINGS = "SELECT sample_id FROM `{table}` WHERE submission_timestamp >= TIMESTAMP('2020-01-01')"
COUNT_PINGS = "SELECT COUNT(*) AS pings FROM ({pings})"
COUNT_TUPLES = """
WITH p AS ({pings}) SELECT COUNT(*) AS found FROM p AS a, p AS b, p AS c, p AS d, p AS e, p AS f, p AS g
WHERE a.sample_id + b.sample_id + c.sample_id + d.sample_id + e.sample_id + f.sample_id + g.sample_id = 9
"""


def statement(name: str, sql: str) -> Statement:
    return Statement(name, sql.replace("{pings}", PINGS).replace("{table}", TABLES["metrics"]), ())


COUNT, ENDLESS = statement("count", COUNT_PINGS), statement("endless", COUNT_TUPLES)
FAILING = statement("failing", "SELECT DIV(1, sample_id - sample_id) AS found FROM ({pings})")
QUICK = JobOptions(poll_seconds=0.05, deadline_seconds=30)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bigquery.Client]:
    with warehouse(tmp_path_factory.mktemp("jobs") / "pings.duckdb", random_pings(1, 300)) as client:
        yield client


def runner(
    client: bigquery.Client, build_id: UUID, options: JobOptions = QUICK, show: Callable[[str], None] = ignore
) -> JobRunner:
    return JobRunner(
        client, build_id, {"product": "fog", "channel": "nightly", "probe": "Tab Count"}, options, show=show
    )


def cancel(_bytes: int) -> None:
    raise WorkCancelledError


def test_a_second_attempt_adopts_the_job_of_the_first(client: bigquery.Client) -> None:
    first, second = (runner(client, UUID(int=1)) for _ in range(2))
    assert list(first.run(COUNT, ignore)) == list(second.run(COUNT, ignore))
    assert first.job_ids == second.job_ids
    assert [job.job_id for job in client.list_jobs()].count(first.job_ids[0]) == 1


def test_a_job_is_accounted_for_by_its_id_before_it_is_begun_and_again_where_it_has_read_something_else(
    client: bigquery.Client,
) -> None:
    """A query that fails is not billed: none of its bytes are left of what it was to read."""
    admitted, settled = list[tuple[str, int]](), list[tuple[str, int]]()
    control = Control(lambda *job: admitted.append(job), lambda *job: settled.append(job))
    build_id = uuid4()
    runs = [replace(runner(client, build_id), control=control) for _ in range(2)]
    for run in runs:
        list(run.run(COUNT, ignore))
    assert admitted == [(runs[0].job_ids[0], runs[0].bytes_processed)] * 2
    assert settled == []
    with pytest.raises(PermanentWorkError, match="zero"):
        list(replace(runner(client, build_id), control=control).run(FAILING, ignore))
    assert admitted[2][1] > 0
    assert settled == [(admitted[2][0], 0)]


def test_another_build_or_another_statement_is_another_job(client: bigquery.Client) -> None:
    other = Statement("count", COUNT.sql + " WHERE sample_id = 1", ())
    runs = [runner(client, UUID(int=2)), runner(client, UUID(int=3)), runner(client, UUID(int=2))]
    for run, query in zip(runs, (COUNT, COUNT, other), strict=True):
        list(run.run(query, ignore))
    assert len({run.job_ids[0] for run in runs}) == 3


def test_a_job_carries_its_limits_and_labels(client: bigquery.Client) -> None:
    run = runner(client, uuid4())
    list(run.run(COUNT, ignore))
    job = client.get_job(run.job_ids[0])
    assert job.labels == {"product": "fog", "channel": "nightly", "probe": "tab_count"}
    assert isinstance(job, bigquery.QueryJob)
    assert job.maximum_bytes_billed == QUICK.maximum_bytes_billed
    assert run.bytes_processed == job.total_bytes_processed > 0


def test_the_bytes_are_known_before_the_query_runs(client: bigquery.Client) -> None:
    told: list[int] = []
    run = runner(client, uuid4())
    list(run.run(COUNT, told.append))
    assert told[0] == run.bytes_processed


def test_a_stopped_build_cancels_its_job_and_the_next_attempt_starts_another(client: bigquery.Client) -> None:
    build_id = uuid4()
    job_id = f"build-{build_id.hex}-{ENDLESS.name}-{ENDLESS.digest()}"
    told: list[int] = []

    def stop_when_running(read: int) -> None:
        told.append(read)
        if len(told) > 1:
            raise WorkCancelledError

    with pytest.raises(WorkCancelledError):
        list(runner(client, build_id).run(ENDLESS, stop_when_running))
    cancelled = client.get_job(job_id)
    with pytest.raises(Exception, match="cancelled"):
        cancelled.result(timeout=30)
    with pytest.raises(TransientWorkError, match=f"{job_id}-2 is still running") as late:
        list(runner(client, build_id, JobOptions(poll_seconds=0.05, deadline_seconds=0.2)).run(ENDLESS, ignore))
    assert late.value.code == "timeout"
    client.cancel_job(f"{job_id}-2")


def test_a_stop_before_the_job_starts_none(client: bigquery.Client) -> None:
    build_id = uuid4()
    with pytest.raises(WorkCancelledError):
        list(runner(client, build_id).run(COUNT, cancel))
    assert not [job for job in client.list_jobs() if build_id.hex in str(job.job_id)]


def test_a_query_over_the_limit_is_never_started(client: bigquery.Client) -> None:
    build_id = uuid4()
    with pytest.raises(PermanentWorkError, match="the limit is 5") as refused:
        list(runner(client, build_id, JobOptions(maximum_bytes_billed=5)).run(COUNT, ignore))
    assert refused.value.code == "bytesBilledLimitExceeded"
    assert not [job for job in client.list_jobs() if build_id.hex in str(job.job_id)]


def test_an_unknown_column_fails_for_good(client: bigquery.Client) -> None:
    wrong = Statement("wrong", COUNT.sql.replace("SELECT sample_id", "SELECT metrics.counter.nothing"), ())
    with pytest.raises(PermanentWorkError, match=r"no column.*nothing") as refused:
        list(runner(client, uuid4()).run(wrong, ignore))
    assert refused.value.code == "invalidQuery"


def test_a_warehouse_out_of_reach_fails_for_now() -> None:
    unreachable = make_client("local-project", "http://127.0.0.1:9", "US")
    with pytest.raises(TransientWorkError) as failed:
        list(runner(unreachable, uuid4(), JobOptions(deadline_seconds=0.2)).run(COUNT, ignore))
    assert failed.value.code == "unreachable"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Release", "release"), ("a.b c", "a_b_c"), ("ä", "_"), ("x" * 100, "x" * 63), ("", "")],
)
def test_a_label_follows_bigquerys_rules(text: str, expected: str) -> None:
    assert label(text) == expected
