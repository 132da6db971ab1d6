"""UsageClient: a process that forks, with the client made and busy before, has each event sent once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fake_service import fake_service, soon

APP = """
import os, sys
from pathlib import Path
from usage_service.client import UsageClient

spool = Path(sys.argv[2]) if sys.argv[2] else None
client = UsageClient(sys.argv[1], spool_dir=spool, linger_seconds=0.05, retry_seconds=0.05)
def fifty():
    for number in range(50):
        os.write(1, client.record("x_note", data={"pid": os.getpid()}).encode() + b"\\n")
fifty()
children = []
for number in range(3):
    child = os.fork()
    if not child:
        assert client.stats().recorded == 0
        fifty()
        os._exit(0 if sys.argv[3] == "abrupt" or client.close(10) else 1)
    children.append(child)
fifty()
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
assert client.flush(10)
assert client.stats().recorded == 100
sys.stdin.read()
"""


@pytest.mark.parametrize(("spooled", "ends"), [(False, "closed"), (True, "closed"), (True, "abrupt")])
def test_each_event_is_sent_once(spooled: bool, ends: str, tmp_path: Path) -> None:
    spool = str(tmp_path) if spooled else ""
    with fake_service() as service:
        app = subprocess.Popen(
            [sys.executable, "-c", APP, service.url, spool, ends],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with app:
            assert app.stdout is not None
            ids = {app.stdout.readline().strip() for _ in range(250)}
            # Of a child that ended abruptly, the parent adopts what is left.
            soon(lambda: ids == service.events.keys(), "every event, once", 20)
            # The parent's are never sent by a child; what a child was sending when it ended may be sent again.
            pids = {event["data"]["pid"] for event in service.events.values()}
            again = {service.events[one]["data"]["pid"] for one in service.repeated}
            assert len(pids) == 4
            assert again <= (pids - {app.pid} if ends == "abrupt" else set())
        assert app.returncode == 0
    assert not list(tmp_path.iterdir())


SENDING = """
import sys
from usage_service.client import UsageClient

with UsageClient(sys.argv[1], timeout=1) as client:
    before = set(sys.modules)
    client.record("x_note", data={"it": "x" * 5_000})
    assert client.flush(10)
    print(sorted(set(sys.modules) - before))
"""


def test_the_thread_imports_nothing() -> None:
    # A module half imported by a thread when the process forks can never be imported in the child.
    with fake_service(lambda number, events: (503, {"Retry-After": "0"}) if number == 1 else None) as service:
        command = [sys.executable, "-c", SENDING, service.url]
        assert subprocess.check_output(command, text=True, timeout=30).strip() == "[]"
