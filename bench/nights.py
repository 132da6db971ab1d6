"""Measurements of a night's list: built in one pass, against each probe by itself and as many at a time."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import duckdb
from google.cloud import bigquery

from bench.numbers import Row
from bench.stack import BenchError, Stack
from bench.warehouse import LARGE_CLIENTS, LARGE_PINGS, UNTIL, known_requests, opened, seeded
from builder.aggregates.aggregating import aggregate_probe
from builder.aggregates.probe import BuildRequest, ProbeRow
from builder.aggregates.together import read_alike
from builder.etl_demo.nights import SAMPLE_OPTIONS
from builder.nights.rehearsal import rehearse
from usage_service.shared.bigquery.errors import PermanentWorkError
from usage_service.shared.progress import Report, progress
from warehouse.sample.pings import SampleOptions
from warehouse.sample.populations import TABLES
from warehouse.sample.probes import sample_probes
from warehouse.sample.seeding import DATABASE

TOGETHER = 8  # jobs read together an eighth of the warehouse's memory, as in the sample
AT_ONCE = 2  # builds, or shared jobs; the embedded warehouse has as many threads
DESKTOP = TABLES[:2]
# A probe's own bytes and those of the columns that all pings have, from the sizes of the sample's columns alone.
OWN = """
    SELECT coalesce(CAST(sum(bytes) AS BIGINT), 0) FROM about.leaf_bytes
    WHERE name IN (SELECT unnest($tables)) AND leaf[1] = 'metrics' AND leaf[3] = $probe
      AND leaf[-1] NOT IN ('sum', 'time_unit')
"""
COMMON = """
    SELECT coalesce(CAST(sum(bytes) AS BIGINT), 0) FROM about.leaf_bytes
    WHERE name IN (SELECT unnest($tables)) AND leaf[1] <> 'metrics'
"""


class Built(NamedTuple):
    """A list that was built: the bytes, jobs and seconds, the probes that each job read, and digests of their rows.

    `processor`: the seconds of processor time, of the embedded warehouse, too, which runs in this process.
    """

    bytes: int
    jobs: int
    seconds: float
    processor: float
    read: list[Sequence[BuildRequest]]
    rows: dict[str, str]


class Part(NamedTuple):
    """The bytes that some jobs read, how many these were, the probes that each read, and the rows they gave."""

    bytes: int
    jobs: int
    read: list[Sequence[BuildRequest]]
    rows: dict[str, str]


def measure_nights(
    stack: Stack, _runs: int, _seconds: float, pings: int, probes: Sequence[int], gigabytes: int
) -> Iterator[Row]:
    """Measure nights of so many probes of so many pings, by a warehouse with so much memory."""
    for number in probes:
        yield from _measured(stack, pings, number, gigabytes)


def _measured(stack: Stack, pings: int, probes: int, gigabytes: int) -> list[Row]:
    directory = stack.directory / f"night-{probes}"
    clients = max(1, round(LARGE_CLIENTS * pings / LARGE_PINGS))
    seeded(directory, SampleOptions(clients, 1, UNTIL, sample_probes(probes), DESKTOP))
    requests = known_requests(directory)
    groups = read_alike(requests, SAMPLE_OPTIONS.source)
    bound = gigabytes * 10**9 // TOGETHER
    with opened(directory, f"{gigabytes}GB") as client:
        with progress("building them one by one", len(requests)) as report:
            alone = _built([partial(_alone, client, request) for request in requests], report)
        with progress("building them in one pass", len(groups)) as report:
            together = _built([partial(_together, client, group, bound) for group in groups], report)
    if together.rows != alone.rows:
        differ = [probe for probe, rows in alone.rows.items() if together.rows.get(probe) != rows]
        raise BenchError(
            f"{len(differ)} of {len(alone.rows)} probes have other rows, {', '.join(differ[:5])} among them"
        )
    with duckdb.connect(directory / DATABASE, read_only=True) as connection:
        sizes = _Sizes(connection)
        once, each = sizes.once_a_job(together.read), sizes.once_a_job(alone.read)
    what = f"{len(requests)} probes of {pings:,} pings in one pass"
    by_one = "one by one"
    mb = 1e6
    return [
        Row(f"{what}: bytes", "MB", [together.bytes / mb], "common columns once a job, each probe's own once",
            [once / mb], 1, _exactly(together.bytes, once), most=True),
        Row(f"{what}: bytes of single builds", "MB", [together.bytes / mb], by_one, [alone.bytes / mb],
            (once / mb) / (each / mb), f"{_exactly(alone.bytes, each)} one by one", most=True),
        Row(f"{what}: warehouse jobs", "jobs", [together.jobs], by_one, [alone.jobs], 1 / 20, most=True),
        Row(f"{what}: seconds", "s", [together.seconds], f"{by_one}, as many at a time", [alone.seconds], 1 / 2,
            f"{AT_ONCE} at a time, memory {gigabytes}GB", most=True),
        Row(f"{what}: processor seconds", "s", [together.processor], by_one, [alone.processor], 1 / 2, most=True),
        Row(f"{what}: probes with the same rows", "probes", [len(together.rows)], by_one, [len(alone.rows)], 1),
    ]  # fmt: skip


def _exactly(measured: int, reckoned: int) -> str:
    return f"{measured:,} bytes, reckoned from the sizes of the columns {reckoned:,}"


class _Sizes:
    """The sizes of the columns of the sample."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def once_a_job(self, groups: Iterable[Sequence[BuildRequest]]) -> int:
        """Return the bytes of all groups: the common columns once, and each probe's own once."""
        return sum(self._group(group) for group in groups)

    def _group(self, group: Sequence[BuildRequest]) -> int:
        tables = [f"{ping}_v1" for ping in set(group[0].pings)]
        own = sum(self._sum(OWN, tables=tables, probe=request.probe) for request in group)
        return own + self._sum(COMMON, tables=tables)

    def _sum(self, sql: str, **values: object) -> int:
        return int((self._connection.execute(sql, values).fetchone() or (0,))[0])


def _built(work: Sequence[Callable[[], Part]], report: Report) -> Built:
    began, used = time.perf_counter(), time.process_time()
    parts = list[Part]()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for part in threads.map(lambda one: one(), work):
            parts.append(part)
            report(len(parts))
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    rows = {probe: digest for part in parts for probe, digest in part.rows.items()}
    size, jobs = sum(part.bytes for part in parts), sum(part.jobs for part in parts)
    return Built(size, jobs, seconds, processor, [group for part in parts for group in part.read], rows)


def _alone(client: bigquery.Client, request: BuildRequest) -> Part:
    built = aggregate_probe(client, request, SAMPLE_OPTIONS, lambda *_: None)
    return Part(built.bytes_processed, len(built.job_ids), [[request]], {request.probe: _digest(built.rows)})


def _together(client: bigquery.Client, group: Sequence[BuildRequest], bound: int) -> Part:
    size, jobs, read, rows = 0, 0, list[Sequence[BuildRequest]](), dict[str, str]()
    for requests, built in rehearse(client, group, SAMPLE_OPTIONS, bound):
        size, jobs = size + built.bytes_processed, jobs + len(built.job_ids)
        read.append(requests)
        for request, one in zip(requests, built, strict=True):
            if isinstance(one, PermanentWorkError):
                raise BenchError(f"{request.probe} was not built: {one}")
            rows[request.probe] = _digest(one)
    return Part(size, jobs, read, rows)


def _digest(rows: Iterable[ProbeRow]) -> str:
    """Return a digest of the rows, which makes all of them, as storing them does."""
    digest = hashlib.sha256()
    for text in _texts(rows):
        digest.update(text)
    return digest.hexdigest()


def _texts(rows: Iterable[ProbeRow]) -> Iterator[bytes]:
    return (repr(row).encode() for row in rows)
