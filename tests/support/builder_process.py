"""A builder in a process of its own, whose rows are made up: `python -m tests.support.builder_process`.

Each attempt takes some steps of random length, now and then fails with a transient error, and gives rows that all bear
the same number, which no other attempt has: rows of two attempts could be told apart.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import uvloop

from builder.aggregates.probe import BuildRequest, BuiltProbe, Progress
from builder.running import Warehouse, open_warehouse, run_builder
from builder.settings import BuilderSettings
from tests.support.builders import ROW
from usage_service.local.owned_process import owned_command
from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.errors import TransientWorkError
from usage_service.shared.logs import configure_logs
from usage_service.shared.schema import DatabaseAwayError
from usage_service.shared.settings import load_settings
from usage_service.shared.trace_export import exported_spans

ROWS = 20
STEPS = range(10, 100, 30)
BYTES_A_STEP = 1_000
LONGEST_STEP_SECONDS = float(os.environ.get("MADE_UP_STEP_SECONDS") or 0.05)
FAILS = 0.05
STOP_SECONDS = 60.0
FAILED: set[UUID] = set()


class BuilderProcess:
    """A builder that can be killed, frozen and started again."""

    def __init__(
        self, name: str, directory: Path, environ: Mapping[str, str], module: str = "tests.support.builder_process"
    ) -> None:
        self._command = [sys.executable, "-m", module, *(["run"] if module == "builder" else [])]
        self.log_path = directory / f"{name}.log"
        self._environ = {k: v for k, v in os.environ.items() if not k.startswith("PROBE_BUILDER_")} | dict(environ)
        self._process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        """Start it, unless it runs."""
        if not self.alive:
            with self.log_path.open("ab") as log:
                self._process = subprocess.Popen(
                    owned_command(self._command), env=self._environ, stdout=log, stderr=log
                )

    @property
    def alive(self) -> bool:
        """Return whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Return the id of the process, which has been started."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it ever ran; after SIGKILL and SIGTERM it has ended."""
        if self._process is not None:
            self._process.send_signal(number)
            if number in (signal.SIGKILL, signal.SIGTERM):
                self._process.wait(STOP_SECONDS)


def aggregate(request: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
    """Take the steps, then return rows; none for probes whose name ends in `_none`."""
    number, read = random.getrandbits(40), 0
    for percent in STEPS:
        control.admit(f"build-{request.build_id.hex}-{percent}", BYTES_A_STEP)
        read += BYTES_A_STEP
        progress("aggregating", percent, read)
        control.wait(random.uniform(0, LONGEST_STEP_SECONDS))
        if random.random() < FAILS and request.build_id not in FAILED:  # or its attempts might all be used up
            FAILED.add(request.build_id)
            raise TransientWorkError("backendError", "made up")
    rows = [] if request.probe.endswith("_none") else [ROW._replace(version=n, total_users=number) for n in range(ROWS)]
    return BuiltProbe(rows, read, [])


def main() -> None:
    """Build until SIGTERM; end when the database stays away, as `probe-builder run` does."""
    configure_logs()
    try:
        with exported_spans("probe-builder"):
            settings = load_settings(BuilderSettings)
            sink = open_warehouse(settings).sink if settings.sink_dataset else None
            healthy = uvloop.run(run_builder(settings, Warehouse(aggregate, sink=sink)))
    except DatabaseAwayError:
        healthy = False
    sys.exit(0 if healthy else 1)


if __name__ == "__main__":
    main()
