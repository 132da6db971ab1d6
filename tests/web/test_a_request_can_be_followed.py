"""A request's id is in its answer and in its log events; logs can be in the format MozLog."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import structlog
from structlog.testing import capture_logs

from tests.support.servers import Client, event
from usage_service.web.api import events as route

SCRIPT = """
import structlog
from usage_service.shared.logs import configure_logs
configure_logs("info", "mozlog")
log = structlog.get_logger()
with structlog.contextvars.bound_contextvars(request_id="abc"):
    log.warning("something_happened", n=7)
log.debug("not_wanted")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("it_failed")
"""


async def test_an_answer_has_the_callers_id_or_one_of_ours(client: Client) -> None:
    response = await client.get("/__lbheartbeat__", headers={"X-Request-Id": "from-the-balancer:1"})
    assert response.headers["X-Request-Id"] == "from-the-balancer:1"
    made = [(await client.get("/nowhere")).headers["X-Request-Id"] for _ in range(2)]
    assert made[0] != made[1]
    assert all(len(name) == 32 for name in made)


@pytest.mark.parametrize("given", ["", "two words", "é", "x" * 129, "<script>", '"}'])
async def test_what_is_no_id_is_replaced(client: Client, given: str) -> None:
    response = await client.get("/__lbheartbeat__", headers={"X-Request-Id": given})
    assert len(response.headers["X-Request-Id"]) == 32


async def test_what_is_logged_of_a_request_has_its_id(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object) -> None:
        raise RuntimeError("forced")

    monkeypatch.setattr(route, "_answer", fail)
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logged:
        response = await client.post("/v1/events", json=[event()], headers={"X-Request-Id": "mine"})
    assert (response.status, response.headers["X-Request-Id"]) == (500, "mine")
    assert [(entry["event"], entry["request_id"]) for entry in logged] == [("request_failed", "mine")]


def test_mozlog_has_its_envelope() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=30, env=dict(os.environ)
    )
    warned, failed = (json.loads(line) for line in done.stderr.splitlines())
    assert warned.keys() == {"Timestamp", "Type", "Logger", "Hostname", "EnvVersion", "Severity", "Pid", "Fields"}
    assert (warned["Type"], warned["Severity"], warned["EnvVersion"]) == ("something_happened", 4, "2.0")
    assert warned["Fields"] == {"request_id": "abc", "n": 7}
    assert warned["Timestamp"] > 1_700_000_000_000_000_000
    assert (failed["Type"], failed["Severity"]) == ("it_failed", 3)
    assert failed["Fields"]["exception"][0]["exc_type"] == "ZeroDivisionError"
