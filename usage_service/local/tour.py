"""What `up` prints once everything runs: what is where, and commands to paste."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from uuid import uuid4

from usage_service.local.embedded_postgres import EmbeddedPostgres
from usage_service.local.stack import House

SHOWN_TYPE = "timing_distribution"


def tour(house: House, postgres: EmbeddedPostgres | None) -> str:
    """A few lines on what runs where, and a short tour of curl commands that work when pasted."""
    text = Template((Path(__file__).parent / "tour.txt").read_text("utf-8"))
    return text.substitute(
        url=house.url,
        data_dir=house.data_dir,
        database=postgres.url if postgres else "DATABASE_URL",
        warehouse=house.settings.project or f"embedded, http://127.0.0.1:{house.warehouse_port}",
        probe=_a_buildable_probe(house.warehouse_dir / "catalogue.ndjson"),
        event_id=uuid4(),
        now=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _a_buildable_probe(catalogue: Path) -> str:
    """A probe of the sample that the builder can aggregate."""
    if not catalogue.exists():
        return "gc_ms"
    probes = [json.loads(line) for line in catalogue.read_text("utf-8").splitlines()]
    ranked = sorted(probe["probe"] for probe in probes if probe["data"]["type"] == SHOWN_TYPE)
    return str(ranked[0]) if ranked else "gc_ms"
