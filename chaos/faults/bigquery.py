"""BigQuery that refuses."""

from __future__ import annotations

from chaos.faults.fault import Fault

FAULTS: tuple[Fault, ...] = ()
