"""Which jobs a list of jobs has, by their state and time, and its pages."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from warehouse.api.requests import whole_number
from warehouse.definitions import invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multidict import MultiMapping

    from warehouse.api.jobs import Job

STATES = {"pending", "running", "done"}


def choose_jobs(jobs: Sequence[Job], arguments: MultiMapping[str]) -> list[Job]:
    """Return the jobs that the arguments of jobs.list ask for, which are given and returned the newest first."""
    states = {state.lower() for state in arguments.getall("stateFilter", [])}
    if unknown := states - STATES:
        raise invalid(f"Invalid value for stateFilter: {unknown.pop()}", "stateFilter")
    if "parentJobId" in arguments:
        return []  # children are those of scripts, which are refused
    oldest = whole_number(arguments.get("minCreationTime", "0"), "minCreationTime")
    newest = whole_number(arguments.get("maxCreationTime", str(10**15)), "maxCreationTime")
    after = _read_token(arguments["pageToken"]) if arguments.get("pageToken") else None
    return [
        job
        for job in jobs
        if (not states or job.state.lower() in states)
        and oldest <= int(job.created * 1000) <= newest
        and (after is None or (job.created, job.job_id) < after)
    ]


def job_token(job: Job) -> str:
    """Return an opaque token for the page that begins after a job, whatever jobs are added meanwhile."""
    return base64.urlsafe_b64encode(json.dumps([job.created, job.job_id]).encode()).decode()


def _read_token(token: str) -> tuple[float, str]:
    try:
        created, job_id = json.loads(base64.urlsafe_b64decode(token.encode()))
        return float(created), str(job_id)
    except (ValueError, TypeError):
        raise invalid("Invalid value for pageToken", "pageToken") from None
