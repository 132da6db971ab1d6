"""The sample's probes as usage events, so that the service knows what can be built."""

from __future__ import annotations

import datetime as dt
import json
import os
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from warehouse.sample.pings import SampleOptions
    from warehouse.sample.probe import Probe

KNOWN_FOR = dt.timedelta(days=365)


def write_registrations(path: Path, options: SampleOptions) -> None:
    """An event a line: one for each product, probe and ping; all or nothing."""
    partial = path.with_suffix(f".partial-{os.getpid()}")
    partial.write_text("".join(json.dumps(event) + "\n" for event in registrations(options)))
    partial.replace(path)


def registrations(options: SampleOptions) -> Iterator[dict[str, object]]:
    """The events; equal options make equal ones."""
    moment = dt.datetime.combine(options.until - KNOWN_FOR, dt.time(), dt.UTC).isoformat().replace("+00:00", "Z")
    for probe in options.probes:
        for product in probe.products:
            for ping in probe.pings:
                yield _registration(probe, product, ping, moment)


def _registration(probe: Probe, product: str, ping: str, moment: str) -> dict[str, object]:
    return {
        "event_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{product}/{probe.name}/{ping}")),
        "type": "probe_registered",
        "occurred_at": moment,
        "product": product,
        "probe": probe.name,
        "data": {"type": probe.type, "ping": ping} | probe.definition(),
    }
