"""Structured logs: readable on a terminal, one JSON object a line otherwise (as MozLog on request)."""

import io
import logging
import os
import socket
import sys
import time

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict

from usage_service.shared.tracing import span_ids

# Without local variables: they hold tokens and raw visitor ids.
_tracebacks = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
_READABLE = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
_JSON = structlog.processors.JSONRenderer()
# MozLog 2.0, as Dockerflow asks for (https://github.com/mozilla-services/Dockerflow/blob/main/docs/mozlog.md).
_MOZLOG_SEVERITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # those of syslog (RFC 5424)
_MOZLOG_LOGGER = "glam-usage"
_HOSTNAME = socket.gethostname()


def configure_logs(level: str = "info", form: str = "auto") -> None:
    """Send structlog and the standard library's logging to stderr.

    `form` is json, mozlog, or auto: readable on a terminal, json otherwise.
    """
    readable = form == "auto" and sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_span_ids,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if readable else "iso", utc=not readable),
            *(_READABLE if readable else [_tracebacks, *([_mozlog] if form == "mozlog" else []), _JSON]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=_CurrentStderr()),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_ToStructlog()], force=True)


def _add_span_ids(_logger: object, _method: str, entry: EventDict) -> EventDict:
    entry.update(span_ids())
    return entry


def _mozlog(_logger: object, _method: str, entry: EventDict) -> EventDict:
    """Put a log entry in MozLog's envelope: the event is its Type, everything else is in Fields."""
    fields = {name: value for name, value in entry.items() if name not in {"event", "level", "timestamp"}}
    return {
        "Timestamp": time.time_ns(),
        "Type": entry["event"],
        "Logger": _MOZLOG_LOGGER,
        "Hostname": _HOSTNAME,
        "EnvVersion": "2.0",
        "Severity": _MOZLOG_SEVERITIES.get(entry["level"], 6),
        "Pid": os.getpid(),
        "Fields": fields,
    }


class _CurrentStderr(io.StringIO):
    """The stderr of the moment when something is logged: loggers are cached, and may outlive their first stderr."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


class _ToStructlog(logging.Handler):
    """A handler that passes records of libraries on to structlog, so that there is one format."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        log.log(record.levelno, record.getMessage(), exc_info=record.exc_info or None)
