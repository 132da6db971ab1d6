"""BigQuery, of which the warehouse of the trial is the stand-in, refuses jobs."""

from __future__ import annotations

import dataclasses
import datetime as dt
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
from psycopg.types.json import Jsonb

from bench.stack import ROOT, BenchError
from builder.aggregates.probe import BuildRequest
from builder.etl_demo.nights import requests_of
from chaos.faults.fault import Fault
from chaos.observer import Wanted
from chaos.stack import Ground, Stack
from tests.support.warehouse_support import OPTIONS
from usage_service.local.owned_process import owned_command
from usage_service.local.ports import free_port
from usage_service.local.services import SAMPLE_MINIMUMS
from warehouse.sample.pings import PROJECT
from warehouse.sample.seeding import CATALOGUE, DATABASE, seed

MINUTE = 60.0
FLAG = "quota-exceeded"
CHANNELS = ("nightly", "beta", "release")
BUILDABLE = """
INSERT INTO catalogue (product, probe, metric_type, pings, registered_at, described_at, definition, defined_at)
VALUES (%s, %s, %s, %s, now(), now(), %s, now())
"""


def fill_warehouse(_exits: ExitStack, directory: Path) -> None:
    """Make the sample pings."""
    seed(directory / "warehouse", dataclasses.replace(OPTIONS, until=_today()), lambda _done: None)


def with_warehouse(exits: ExitStack, stack: Stack) -> str:
    """Run the warehouse; builds are of the sample's probes."""
    port = free_port()
    words = [str(stack.directory / "warehouse" / DATABASE), str(port), str(stack.directory / FLAG)]
    process = subprocess.Popen(owned_command([sys.executable, "-m", "chaos.warehouse", *words]), cwd=ROOT)
    exits.callback(process.wait, 10)
    exits.callback(process.terminate)
    requests = requests_of(stack.directory / "warehouse" / CATALOGUE, "fog", "nightly", _today())
    with stack.session() as session, session.cursor() as cursor:
        cursor.execute("DELETE FROM catalogue")
        cursor.executemany(BUILDABLE, [_row(request) for request in requests])
    stack.builder_environ |= {
        "PROBE_BUILDER_WAREHOUSE_URL": f"http://127.0.0.1:{port}",
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "PROBE_BUILDER_MINIMUMS": SAMPLE_MINIMUMS,
        "PROBE_BUILDER_RETRY_SECONDS": "2",  # as it is by default
    }
    stack.wanted = [Wanted("fog", channel, request.probe) for channel in CHANNELS for request in requests]
    if process.poll() is not None:
        raise BenchError("the warehouse did not start, see above")
    return stack.database


def _row(request: BuildRequest) -> tuple[object, ...]:
    definition = {name: value for name, value in msgspec.to_builtins(request.definition).items() if value}
    return request.product, request.probe, request.metric_type, list(request.pings), Jsonb(definition or None)


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()


@contextmanager
def refuse_jobs(stack: Stack) -> Iterator[None]:
    """Answer every job with a quota error."""
    flag = stack.directory / FLAG
    flag.touch()
    yield
    flag.unlink()


FAULTS = (
    Fault(
        "quota", "BigQuery refuses every job for a minute because a quota is used up", refuse_jobs, hold=MINUTE,
        ground=Ground(prepare=fill_warehouse, before_programs=with_warehouse, made_up_builds=False),
    ),
)  # fmt: skip
