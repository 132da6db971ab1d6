"""Builder whose aggregation is empty: `python -m bench.builder`; prints `BUILD_ID SECONDS` when a build begins.

Seconds are those of the machine's monotonic clock, which is the same in every process.
"""

from __future__ import annotations

import os
import sys
import time

import uvloop

from builder.aggregates.probe import BuildRequest, BuiltProbe, Progress
from builder.running import Warehouse, run_builder
from builder.settings import BuilderSettings
from usage_service.shared.bigquery.control import Control
from usage_service.shared.logs import configure_logs
from usage_service.shared.settings import load_settings


def aggregate_nothing(request: BuildRequest, _progress: Progress, _control: Control) -> BuiltProbe:
    """Return at once that too few clients sent the probe."""
    sys.stdout.write(f"{request.build_id} {time.monotonic()}\n")
    sys.stdout.flush()
    return BuiltProbe([], 0, [])


if __name__ == "__main__":
    settings = load_settings(BuilderSettings, os.environ)
    configure_logs(settings.log_level)
    uvloop.run(run_builder(settings, Warehouse(aggregate_nothing)))
