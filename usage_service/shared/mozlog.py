"""Log entries as Mozilla's pipeline reads them: MozLog 2.0, as Dockerflow asks for."""

from __future__ import annotations

import os
import socket
import time

from structlog.typing import EventDict, WrappedLogger

# https://github.com/mozilla-services/Dockerflow/blob/main/docs/mozlog.md; severities are those of syslog (RFC 5424).
SEVERITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
LOGGER = "glam-usage"
HOSTNAME = socket.gethostname()


def mozlog(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    """Put a log entry in MozLog's envelope: the event is its Type, everything else is in Fields."""
    fields = {name: value for name, value in entry.items() if name not in {"event", "level", "timestamp"}}
    return {
        "Timestamp": time.time_ns(),
        "Type": entry["event"],
        "Logger": LOGGER,
        "Hostname": HOSTNAME,
        "EnvVersion": "2.0",
        "Severity": SEVERITIES.get(entry["level"], 6),
        "Pid": os.getpid(),
        "Fields": fields,
    }
