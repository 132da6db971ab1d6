"""Which jobs a list of jobs has, by their state and time, and its pages."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from warehouse.api.requests import whole_number
from warehouse.definitions import invalid

if TYPE_CHECKING:
    from multidict import MultiMapping

STATES = {"pending", "running", "done"}
MAX_LISTED = 1_000
BEFORE_ALL, AFTER_ALL = 0.0, 1e15
NEWEST = (AFTER_ALL, "")


@dataclass(frozen=True)
class Listing:
    """The part of a project's jobs that a page shows, the newest first.

    They were created between `oldest` and `newest`, in seconds; `after` is the time and id of the last job of the page
    before, so that jobs that are added meanwhile move nothing.
    """

    states: frozenset[str] = frozenset(STATES)
    oldest: float = BEFORE_ALL
    newest: float = AFTER_ALL
    after: tuple[float, str] = NEWEST
    limit: int = MAX_LISTED

    def has(self, created: float, job_id: str, state: str) -> bool:
        """Return whether a job belongs to the list, on this page or a later one."""
        timely = self.oldest <= created <= self.newest
        return timely and state.lower() in self.states and (created, job_id) < self.after


def read_listing(arguments: MultiMapping[str]) -> Listing:
    """Return what the arguments of jobs.list ask for; raise `invalid` for what nothing can be."""
    states = {state.lower() for state in arguments.getall("stateFilter", [])}
    if unknown := states - STATES:
        raise invalid(f"Invalid value for stateFilter: {unknown.pop()}", "stateFilter")
    if "parentJobId" in arguments:
        states = set()  # children are those of scripts, which are refused
    elif not states:
        states = STATES
    return Listing(
        frozenset(states),
        _seconds(arguments, "minCreationTime", BEFORE_ALL),
        _seconds(arguments, "maxCreationTime", AFTER_ALL) + 0.001,  # to the end of that millisecond
        _read_token(arguments["pageToken"]) if arguments.get("pageToken") else NEWEST,
        min(whole_number(arguments.get("maxResults", MAX_LISTED), "maxResults"), MAX_LISTED),
    )


def _seconds(arguments: MultiMapping[str], name: str, default: float) -> float:
    return whole_number(arguments[name], name) / 1000 if name in arguments else default


def job_token(created: float, job_id: str) -> str:
    """Return an opaque token for the page that begins after a job."""
    return base64.urlsafe_b64encode(json.dumps([created, job_id]).encode()).decode()


def _read_token(token: str) -> tuple[float, str]:
    try:
        created, job_id = json.loads(base64.urlsafe_b64decode(token.encode()))
        return float(created), str(job_id)
    except (ValueError, TypeError):
        raise invalid("Invalid value for pageToken", "pageToken") from None
