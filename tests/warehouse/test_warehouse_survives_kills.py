"""A warehouse that is killed has all of a job or nothing; what is sent again under its id happens once."""

import signal
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from google.api_core.exceptions import NotFound
from google.cloud.bigquery import Client, QueryJob, SchemaField

from tests.support.servers import rounds
from tests.support.warehouse_support import NEVER, SECONDS, start
from tests.support.warehouse_tables import content, empty_database, load, make_table, parquet, run, succeeded
from tests.warehouse.test_warehouse_commands import server
from usage_service.shared.bigquery.jobs import make_client
from warehouse.sample.pings import PROJECT

ROWS, BATCHES = 5_000, 4
COLUMNS = {"batch": "INTEGER", "n": "INTEGER", "text": "STRING"}
COUNT_ONE = "UPDATE glam_etl.t SET n = n + 1 WHERE batch <= {batch}"


def send(client: Client, batch: int) -> list[Any]:
    """Start the load of a batch, and the statement that counts the batches after each row, under ids of their own."""
    columns = {"batch": [batch] * ROWS, "n": [0] * ROWS, "text": [f"{batch}" * 20] * ROWS}
    sql = COUNT_ONE.format(batch=batch)
    return [load(client, "t", parquet(columns), job_id=f"load{batch}"), start(client, sql, job_id=f"count{batch}")]


def finished(client: Client) -> list[bool]:
    """Return of each job, in the order in which they were sent, whether it is there."""
    found = []
    for batch in range(BATCHES):
        for job_id in (f"load{batch}", f"count{batch}"):
            try:
                found.append(client.get_job(job_id, location="US", retry=NEVER).state == "DONE")
            except NotFound:
                found.append(False)
    return found


def summary(client: Client) -> list[tuple[object, ...]]:
    run(
        client,
        "SELECT batch, n, COUNT(*) AS rows_of_batch FROM glam_etl.t GROUP BY batch, n",
        destination=f"{PROJECT}.glam_etl.summary",
        write_disposition="WRITE_TRUNCATE",
    )
    return content(client, "summary")


def test_a_killed_warehouse_has_all_of_a_job_or_nothing(tmp_path: Path) -> None:
    for number in range(rounds(1)):
        directory = tmp_path / str(number)
        directory.mkdir()
        empty_database(directory)
        after = 2 + number % (2 * BATCHES - 2)
        with server(directory) as (process, address), closing(make_client(PROJECT, address, "US")) as client:
            client.create_dataset("glam_etl", retry=NEVER, timeout=SECONDS)
            make_table(client, "t", *(SchemaField(name, kind) for name, kind in COLUMNS.items()))
            jobs = [job for batch in range(BATCHES) for job in send(client, batch)]
            deadline = time.monotonic() + SECONDS
            while not jobs[after].done(retry=NEVER, timeout=SECONDS):
                assert time.monotonic() < deadline
            process.send_signal(signal.SIGKILL)
        with server(directory) as (_, address), closing(make_client(PROJECT, address, "US")) as client:
            done = finished(client)
            assert done[: after + 1] == [True] * (after + 1)
            assert done == sorted(done, reverse=True), "they happened in their order"
            loads, counts = (sum(done) + 1) // 2, sum(done) // 2
            assert summary(client) == [(batch, counts - batch, ROWS) for batch in range(loads)]
            for batch in range(sum(done) // 2, BATCHES):
                again = send(client, batch) if not done[2 * batch] else [None, _count(client, batch)]
                for job in filter(None, again):
                    succeeded(job)
            assert summary(client) == [(batch, BATCHES - batch, ROWS) for batch in range(BATCHES)]


def _count(client: Client, batch: int) -> QueryJob:
    return start(client, COUNT_ONE.format(batch=batch), job_id=f"count{batch}")
