"""A command started through `owned_command` does not outlive the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.support.postgres_owner import SECONDS
from usage_service.local import owned_process
from usage_service.local.owned_process import owned_command
from usage_service.local.postgres_cluster import wait_until

PARENT = """
import signal, subprocess, sys
from usage_service.local.owned_process import owned_command
script = "import signal, sys; print('up', flush=True); signal.pause()"
child = subprocess.Popen(owned_command([sys.executable, "-c", script]), start_new_session=True)
print(child.pid, flush=True)
signal.pause()
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_parent_ended(end: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        # The child's first word comes from the command itself: the wrapper has done its work by then.
        lines = {parent.stdout.readline().strip(), parent.stdout.readline().strip()}
        assert "up" in lines
        (pid,) = (int(line) for line in lines - {"up"})
        parent.send_signal(end)
    assert wait_until(lambda: _is_over(pid), SECONDS)


def test_parent_gone_already() -> None:
    command = owned_command(["/bin/echo", "ran"])
    command[command.index("--parent") + 1] = "1"
    ended = subprocess.run(command, capture_output=True, check=False, text=True, timeout=SECONDS)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "the parent is gone already\n")


def test_command_gets_its_arguments_and_its_process_id() -> None:
    script = "import os, sys; print(os.getpid(), sys.argv[1:])"
    command = owned_command([sys.executable, "-c", script, "--signal", "--", "-x"])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.communicate(timeout=SECONDS)[0] == f"{process.pid} ['--signal', '--', '-x']\n"


def test_runs_as_a_module() -> None:
    command = [
        sys.executable,
        "-m",
        "usage_service.local.owned_process",
        "--unprivileged",
        "--signal",
        "INT",
        "--",
        "/bin/echo",
    ]
    assert subprocess.run([*command, "ran"], capture_output=True, check=False, timeout=SECONDS).stdout == b"ran\n"


def test_starts_with_signals_as_usual() -> None:
    status = subprocess.run(
        owned_command(["/bin/cat", "/proc/self/status"]), capture_output=True, check=False, text=True, timeout=SECONDS
    ).stdout
    masks = dict(line.split(":\t") for line in status.splitlines() if line.startswith(("SigBlk", "SigIgn")))
    usual = sum(1 << (number - 1) for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM))
    assert not any(int(mask, 16) & usual for mask in masks.values())


def test_command_that_does_not_exist() -> None:
    ended = subprocess.run(owned_command(["/no/such"]), capture_output=True, check=False, text=True, timeout=SECONDS)
    assert ended.returncode == 1
    assert ended.stderr.startswith("cannot run /no/such: ")


@pytest.mark.parametrize("arguments", [[], ["--signal", "NONSENSE", "--", "/bin/true"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        owned_process.main(arguments)
    assert "usage:" in capsys.readouterr().err


def test_system_without_death_signals_runs_the_command_unowned(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: object())
    monkeypatch.setattr(owned_process, "_reset_signals", lambda: None)
    monkeypatch.setattr("os.execv", lambda _path, argv: ran.append(argv))
    run: Callable[[list[str]], object] = owned_process.main
    run(["--parent", str(os.getppid()), "--", "/bin/true"])
    assert ran == [["/bin/true"]]


def test_wrapper_imports_nothing_heavy(tmp_path: Path) -> None:
    # It starts with every process: a service module imported by it would cost each of them its start-up time.
    script = f"import runpy, sys; runpy.run_path({owned_process.__file__!r}); print(*sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, check=False, text=True, cwd=tmp_path
    )
    assert not {"asyncio", "structlog", "usage_service", "msgspec"} & set(shown.stdout.split())


def _is_over(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
