"""The faults, by kind."""

from __future__ import annotations

from chaos.faults import bigquery, clocks, disks, events, failover, locks, processes, sessions
from chaos.faults.fault import Fault

MODULES = (processes, sessions, locks, disks, failover, clocks, events, bigquery)
FAULTS: dict[str, Fault] = {fault.name: fault for module in MODULES for fault in module.FAULTS}
