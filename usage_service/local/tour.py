"""Text that `up` prints once all services run: their addresses, and commands to paste."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from uuid import uuid4

from usage_service.local.embedded_postgres import EmbeddedPostgres
from usage_service.local.stack import LocalStack

SHOWN_TYPE = "timing_distribution"


def tour(stack: LocalStack, postgres: EmbeddedPostgres | None) -> str:
    """Write the addresses of the services, and a short tour of curl commands that work when pasted."""
    text = Template((Path(__file__).parent / "tour.txt").read_text("utf-8"))
    return text.substitute(
        url=stack.url,
        data_dir=stack.data_dir,
        database=postgres.url if postgres else "DATABASE_URL",
        warehouse=stack.settings.project or f"embedded, http://127.0.0.1:{stack.warehouse_port}",
        mirror=f"the log in the warehouse: {stack.mirror}.events" if stack.mirror else "none of the log here",
        probe=_buildable_probe(stack.warehouse_dir / "catalogue.ndjson"),
        event_id=uuid4(),
        now=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _buildable_probe(catalogue: Path) -> str:
    """Return the name of a probe of the sample that the builder can aggregate."""
    if not catalogue.exists():
        return "gc_ms"
    probes = [json.loads(line) for line in catalogue.read_text("utf-8").splitlines()]
    ranked = sorted(probe["probe"] for probe in probes if probe["data"]["type"] == SHOWN_TYPE)
    return str(ranked[0]) if ranked else "gc_ms"
