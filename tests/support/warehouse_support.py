"""The embedded warehouse over a small seed, and clients of it that give up soon."""

import datetime as dt
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
from google.cloud.bigquery import Client, QueryJob, QueryJobConfig, ScalarQueryParameter
from google.cloud.bigquery.retry import DEFAULT_RETRY

from tests.support.made_once import made_once
from usage_service.shared.bigquery.jobs import make_client
from warehouse.sample.pings import PROJECT, SampleOptions
from warehouse.sample.populations import TABLES
from warehouse.sample.seeding import DATABASE, seed
from warehouse.serving import served

UNTIL = dt.date(2026, 3, 31)
OPTIONS = SampleOptions(clients=150, seed=7, until=UNTIL, tables=TABLES[:3])
DATASET, TABLE = TABLES[0].dataset, TABLES[0].name
PINGS = f"`{PROJECT}.{DATASET}.{TABLE}`"
NEVER = DEFAULT_RETRY.with_predicate(lambda _: False).with_timeout(20)
SECONDS = 20.0
ENDLESS = """
SELECT COUNT(*) FROM UNNEST(GENERATE_ARRAY(1, 100000)) AS a
CROSS JOIN UNNEST(GENERATE_ARRAY(1, 100000)) AS b CROSS JOIN UNNEST(GENERATE_ARRAY(1, 100000)) AS c
WHERE a * b + c = 7
"""


def over_pings(sql: str) -> str:
    """Return the query with the pings' table in place of `pings`."""
    return re.sub(r"\bpings\b", PINGS, sql)


def nothing(done: int) -> None:
    """Ignore the progress."""


def seeded(factory: pytest.TempPathFactory) -> Path:
    """Return the file of a small seed, made once for all tests of a run, which only read it.

    Whoever asks gets it in a folder of their own, beside which a warehouse keeps the tables that are made in it.
    """
    own = factory.mktemp("warehouse")
    for made in made_once(factory, "seed", lambda folder: seed(folder, OPTIONS, nothing)).iterdir():
        (own / made.name).hardlink_to(made)
    return own / DATABASE


@contextmanager
def client_of(database: Path) -> Iterator[Client]:
    """Serve the file and yield a client of the server."""
    with served(database) as address, closing(make_client(PROJECT, address, "US")) as client:
        yield client


def start(client: Client, sql: str, job_id: str | None = None, config: QueryJobConfig | None = None) -> QueryJob:
    """Start a query job without retries."""
    return client.query(sql, job_config=config, job_id=job_id, retry=NEVER, timeout=SECONDS, job_retry=None)


def rows(client: Client, sql: str, config: QueryJobConfig | None = None) -> list[tuple[object, ...]]:
    """Return the rows of a query."""
    result = start(client, sql, config=config).result(retry=NEVER, timeout=SECONDS, job_retry=None)
    return [tuple(row.values()) for row in result]


def scalar(client: Client, expression: str) -> object:
    """Return the value of an expression."""
    return rows(client, f"SELECT {expression}")[0][0]


def since(day: dt.date) -> ScalarQueryParameter:
    """Return the parameter @since: the beginning of a day."""
    return ScalarQueryParameter("since", "TIMESTAMP", dt.datetime.combine(day, dt.time(), dt.UTC))


dry = partial(QueryJobConfig, dry_run=True)
