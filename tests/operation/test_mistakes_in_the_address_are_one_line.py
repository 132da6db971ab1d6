"""A mistake in the database's address is one line that says what is wrong and how to mend it, in both programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from builder import cli as builder_cli
from usage_service import cli

PROGRAMS = {"usage-service": ["usage_service", "serve"], "probe-builder": ["builder", "run"]}
MAINS = {"usage-service": cli.main, "probe-builder": builder_cli.main}
SECONDS = 60.0
# How the good address is changed, and what is said of it.
MISTAKES: dict[str, tuple[Callable[[str], str], str]] = {
    "wrong password": (lambda url: url.replace(f":{urlsplit(url).password}@", ":wrong@"), "password"),
    "no such role": (lambda url: url.replace("//postgres:", "//nobody:"), "nobody"),
    "no such database": (lambda url: url.rpartition("/")[0] + "/nowhere", "create the database"),
    "no port": (lambda url: url.replace(f":{urlsplit(url).port}/", ":port/"), "must be like postgresql://"),
    "too high a port": (lambda url: url.replace(f":{urlsplit(url).port}/", ":99999/"), "0-65535"),
    "another scheme": (lambda url: url.replace("postgresql://", "mysql://"), "DATABASE_URL"),
    "libpq's time-out": (lambda url: f"{url}?connect_timeout=3", "connect_timeout"),
    "libpq's binding": (lambda url: f"{url}?channel_binding=require", "channel_binding"),
    "a pooler's parameter": (lambda url: f"{url}?pgbouncer=true", "pgbouncer"),
    "no such file": (lambda url: f"{url}?sslmode=verify-full&sslrootcert=/no/such.pem", "not there"),
    "no TLS there": (lambda url: f"{url}?sslmode=require", "TLS"),
    "no such mode": (lambda url: f"{url}?sslmode=never", "sslmode"),
}


def environment(url: str) -> dict[str, str]:
    own = {
        "USAGE_SERVICE_VISITOR_SECRET": "a secret for tests only",
        "PROBE_BUILDER_WAREHOUSE_URL": "http://127.0.0.1:9",
    }
    return own | {"DATABASE_URL": url}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_mistake_is_named(
    program: str,
    mistake: str,
    worker_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Within this process: to load a program takes ten times as long as what it says of a mistake."""
    change, said = MISTAKES[mistake]
    for name, value in environment(change(worker_database_url)).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("usage_service.shared.commands.configure_logs", lambda *_: None)
    monkeypatch.setattr(sys, "argv", [program, PROGRAMS[program][1]])
    with pytest.raises(SystemExit) as ended:
        MAINS[program]()
    assert ended.value.code == 2
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith(f"{program}: ")
    assert "DATABASE_URL" in line
    assert said in line


def test_a_builder_without_credentials_is_told_what_it_needs(worker_database_url: str, tmp_path: Path) -> None:
    without = {"PROBE_BUILDER_WAREHOUSE_URL": "", "HOME": str(tmp_path), "NO_GCE_CHECK": "true"}
    told = subprocess.run(
        [sys.executable, "-m", *PROGRAMS["probe-builder"]],
        env=os.environ | environment(worker_database_url) | without,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert told.returncode == 2, told.stderr
    assert "Traceback" not in told.stderr
    assert told.stderr.splitlines()[-1].startswith("probe-builder: GOOGLE_APPLICATION_CREDENTIALS: ")


@pytest.mark.parametrize("program", PROGRAMS)
def test_one_that_waits_for_the_database_ends_when_told_to(program: str, unused_tcp_port: int) -> None:
    url = f"postgresql://postgres:x@127.0.0.1:{unused_tcp_port}/usage"
    with subprocess.Popen(
        [sys.executable, "-m", *PROGRAMS[program]], env=os.environ | environment(url), stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if "waiting_for_database" in line:
                    break
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
        finally:
            process.kill()
