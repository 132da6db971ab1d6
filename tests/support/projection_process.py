"""Process that folds or rebuilds, to be killed: `python -m tests.support.projection_process fold|rebuild URL`."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.traffic import PROJECTIONS, ignore
from usage_service.local.owned_process import owned_command
from usage_service.projections import rebuilding, runner
from usage_service.projections.runner import Runners
from usage_service.shared.postgres import open_pool

STOP_SECONDS = 20.0


class ProjectionProcess:
    """Process that folds the live projections, or rebuilds one after the other for as long as it lives."""

    def __init__(self, work: str, database_url: str, directory: Path) -> None:
        self._command = owned_command([sys.executable, "-m", "tests.support.projection_process", work, database_url])
        self._log = directory / f"{work}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        """Start the process, unless it runs."""
        if self._process is None or self._process.poll() is not None:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal, if it ever ran; after SIGKILL wait for its end."""
        if self._process is not None:
            self._process.send_signal(number)
            if number == signal.SIGKILL:
                self._process.wait(STOP_SECONDS)


async def fold(url: str) -> None:
    """Fold as a server does, but with a short pause after a failure."""
    runner.AFTER_FAILURE_SECONDS = 0.2
    async with open_pool(url, role="usage_server", application="folding", size=6) as pool:
        await Runners(pool, lambda: None).run()


async def rebuild(url: str) -> None:
    """Rebuild as an operator does, over and over, in batches so small that many are killed half filled."""
    rebuilding.BATCH_POSITIONS = 200
    rebuilding.LEFT_TO_THE_SWAP = 50
    while True:
        async with rebuilding.owner_connection(url) as connection:
            await rebuilding.rebuild(connection, random.choice(PROJECTIONS), {}, ignore)


if __name__ == "__main__":
    asyncio.run({"fold": fold, "rebuild": rebuild}[sys.argv[1]](sys.argv[2]))
