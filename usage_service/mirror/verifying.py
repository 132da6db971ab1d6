"""What the mirror has of its loads, counted and hashed by BigQuery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from google.cloud import bigquery

from usage_service.log.mirrored import Load, MirrorPlace, within
from usage_service.mirror.digests import BLOCK, digest_of
from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.jobs import JobOptions, JobRunner, ignore
from usage_service.shared.bigquery.pages import rows_of
from usage_service.shared.bigquery.statement import Statement, parameters
from usage_service.shared.queries import SqlFolder

render = SqlFolder(Path(__file__).parent / "sql").template


class Found(NamedTuple):
    """What the mirror has of a load: how many events, and their digest."""

    after: int
    events: int
    digest: str


@dataclass(frozen=True)
class Verifier:
    """A reader of what one mirror has."""

    client: bigquery.Client
    place: MirrorPlace
    options: JobOptions

    def find(self, loads: Sequence[Load], control: Control) -> list[Found]:
        """Return what the mirror has of some loads that follow each other. Raise a WorkError. Blocks."""
        # Under an id of its own: what another attempt found is not what is there now.
        runner = JobRunner(self.client, uuid4(), {"purpose": "verify"}, self.options, control, kind="mirror")
        rows = [tuple(row.values()) for row in rows_of(runner.run(self.statement(loads), ignore))]
        found = {load.after: Found(load.after, 0, digest_of([])) for load in loads}
        for after, blocks in groupby(rows, lambda row: int(row[0])):
            counted = [(int(block), int(events), str(digest)) for _, block, events, digest in blocks]
            events = sum(events for _, events, _ in counted)
            found[after] = Found(after, events, digest_of((block, digest) for block, _, digest in counted))
        return [found[load.after] for load in loads]

    def remove(self, load: Load, control: Control) -> None:
        """Delete what the mirror has of a load. Raise a WorkError. Blocks."""
        runner = JobRunner(self.client, uuid4(), {"purpose": "repair"}, self.options, control, kind="mirror")
        runner.run_job(self.removal(load))

    def removal(self, load: Load) -> Statement:
        """Return the statement that deletes the events of a load."""
        return Statement("removed", render("removed", table=self.place.table), parameters(within([load])))

    def statement(self, loads: Sequence[Load]) -> Statement:
        """Return the statement that counts and hashes the events of some loads."""
        values = within(list(loads)) | {"block": ("INT64", BLOCK)}
        return Statement("digests", render("digests", table=self.place.table), parameters(values))
