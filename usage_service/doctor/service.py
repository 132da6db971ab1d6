"""Checks of a running service: that it answers, what it says of itself, its clock, and what the token opens."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import msgspec
import urllib3

from usage_service.doctor.findings import Finding, clock_finding, now
from usage_service.shared.service_errors import reason
from usage_service.shared.version import Version, running_version

TIMEOUT = urllib3.Timeout(connect=3, read=10)
MOST_SHOWN = 200
# What each scope is proved with. A body that is no JSON changes nothing: it is refused once the token was let in.
PROOFS = {
    "read": ("GET", "/v1/projections"),
    "events": ("POST", "/v1/events"),
    "build": ("POST", "/v1/builds"),
    "admin": ("PUT", "/v1/hidden/doctor"),
}
NO_JSON = b"?"
MENDS = {
    "database": "see DATABASE_URL of the server, and whether PostgreSQL runs",
    "recording": "see the lines on the database, and the server's log",
    "listener": "see LISTEN_DATABASE_URL of the server: it has to be a direct address, without a pooler",
    "projections": "`usage-service projections` shows why; docs/guides/operating.md has the mend",
}


class Heartbeat(msgspec.Struct, frozen=True):
    """Parts of the heartbeat that are read."""

    checks: dict[str, str]
    events_set_aside: dict[str, int] = {}
    sinks_behind: dict[str, str] = {}
    mirrors_behind: dict[str, str] = {}


class Answer(NamedTuple):
    """Answer of the service: its status, body, and the time it was given at by its clock and around it by ours."""

    status: int
    body: bytes
    told_at: datetime | None
    before: datetime
    after: datetime


class Caller:
    """Caller of the service at a URL, with a token or without one."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url.rstrip("/")
        self.token = token

    def call(self, method: str, path: str, body: bytes | None = None) -> Answer | str:
        """Return the answer, or why there is none."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= {} if body is None else {"Content-Type": "application/json"}
        before = now()
        try:
            with urllib3.PoolManager(timeout=TIMEOUT, retries=False) as pool:
                response = pool.request(method, self.url + path, headers=headers, body=body)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            return str(error).partition(": ")[2] or str(error)
        return Answer(response.status, response.data, _date(response.headers.get("Date")), before, now())


def service_findings(url: str, token: str | None) -> Iterator[Finding]:
    """Check the service at a URL; nothing of it is changed."""
    caller = Caller(url, token)
    answer = caller.call("GET", "/__version__")
    if isinstance(answer, str):
        yield Finding("service", "wrong", f"{url} does not answer ({answer})", "start it, or name another with --url")
        return
    try:
        version = msgspec.json.decode(answer.body, type=Version).version
    except msgspec.DecodeError:
        yield Finding(
            "service", "wrong", f"{url} answers {answer.status}, and is no usage service", "name another with --url"
        )
        return
    yield _versions(url, version)
    if answer.told_at:
        # The header has whole seconds, and is cut off.
        yield clock_finding("clock of the service", answer.told_at, answer.before - timedelta(seconds=1), answer.after)
    yield from _heartbeat_findings(caller)
    yield _token_finding(caller)


def _versions(url: str, version: str) -> Finding:
    ours = running_version().version
    if version == ours:
        return Finding("service", "ok", f"{url} answers, version {version}")
    return Finding(
        "service", "note", f"{url} answers, version {version}; these commands are {ours}", "install one of both"
    )


def _heartbeat_findings(caller: Caller) -> Iterator[Finding]:
    answer = caller.call("GET", "/__heartbeat__")
    try:
        if isinstance(answer, str):
            raise msgspec.DecodeError(answer)
        heart = msgspec.json.decode(answer.body, type=Heartbeat)
    except msgspec.DecodeError as error:
        yield Finding("heartbeat", "wrong", f"is none ({error})"[:MOST_SHOWN], "see the server's log")
        return
    for name, said in heart.checks.items():
        mend = "" if said == "ok" else MENDS.get(name, "see the server's log")
        yield Finding(f"service: {name}", "wrong" if mend else "ok", said, mend)
    for name, number in heart.events_set_aside.items():
        mend = f"`usage-service projections retry {name}` once the cause is mended"
        yield Finding(f"service: {name}", "note", f"{number:,} events are set aside", mend)
    for name, said in heart.sinks_behind.items():
        yield Finding(f"sink {name}", "wrong", said, "see the builder's log, and docs/guides/glam-tables.md")
    for name, said in heart.mirrors_behind.items():
        yield Finding(f"mirror {name}", "wrong", said, "start `usage-service mirror`; docs/guides/mirror.md")


def _token_finding(caller: Caller) -> Finding:
    opened: list[str] = []
    for scope, (method, path) in PROOFS.items():
        answer = caller.call(method, path, None if method == "GET" else NO_JSON)
        if isinstance(answer, str):
            return Finding("token", "wrong", f"the service stopped answering ({answer})", "run this again")
        if answer.status == 401 and caller.token:
            return Finding("token", "wrong", "is not valid here", "make one with `usage-service token create`")
        if answer.status == 429 or answer.status >= 500:
            said = reason(answer.status, answer.body)[:MOST_SHOWN]
            return Finding("token", "wrong", f"{answer.status}: {said}", "see the lines above, or try again later")
        if answer.status not in (401, 403):
            opened.append(scope)
    lacking = [scope for scope in PROOFS if scope not in opened]
    if not opened:
        mend = "give one with --token or USAGE_SERVICE_TOKEN; `usage-service token create` makes one"
        return Finding("token", "wrong", "opens nothing but feeds" if caller.token else "none was given", mend)
    whose = "the token" if caller.token else "the service, without a token,"
    without = f"; not {', '.join(lacking)}" if lacking else ""
    return Finding("token", "ok", f"{whose} opens {', '.join(opened)}{without}")


def _date(header: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(header).astimezone(UTC) if header else None
    except (ValueError, OverflowError):
        return None
